"""Tries cases in a process of its own: `python -m systolith.sim.fuzz.worker KIND FIRST LAST`.

On stdout: a line "try SEED" before a case, and "done SEED OUTCOME" or "wrong SEED REASON" after it. So whoever reads
knows which case a process died of, or hangs in. Memory is limited to a gigabyte more than there is at the start.
"""

import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from systolith.errors import SystolithError
from systolith.sim.fuzz import config_files, input_files, model_files, program_files
from systolith.sim.fuzz.case import Case, Wrong

__all__ = ["KINDS", "attempt", "main"]

KINDS: dict[str, tuple[Callable[[int], Case], Callable[[Case, Path], str]]] = {
    "onnx": (model_files.make, model_files.judge),
    "program": (program_files.make_program, program_files.judge),
    "network": (program_files.make_network, program_files.judge),
    "inputs": (input_files.make, input_files.judge),
    "config": (config_files.make, config_files.judge),
}
GIGABYTE = 1 << 30
SECONDS = 10
"""CPU time of a case."""
LONGEST = 300
"""Characters of a refusal that are shown; the command line makes one line of any."""
FULL = ("bad_alloc", "bad allocation", "Unable to allocate", "MemoryError", "Failed to allocate")
"""What a refusal says that hides a lack of memory."""


class Hang(BaseException):
    """A case that takes too long."""


def attempt(kind: str, seed: int, folder: Path) -> tuple[bool, str]:
    """Whether all is as it must be, and what came of it."""
    make, judge = KINDS[kind]
    case = make(seed)
    signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return True, judge(case, folder)
    except SystolithError as error:
        text = str(error)
        if any(word in text for word in FULL):
            return False, f"{case.change}: refused by {text[:LONGEST]!r}"
        return True, "refused"
    except Wrong as error:
        return False, str(error)
    except Hang:
        return False, f"{case.change}: takes more than {SECONDS} seconds: {_place()}"
    except BaseException as error:
        return False, f"{case.change}: {type(error).__name__}: {error} {_place()}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def main(kind: str, first: int, last: int) -> None:
    """Try the cases from the first to before the last."""
    warnings.simplefilter("error")
    KINDS[kind][0](first)  # Seed files are made before memory is limited.
    limit = _virtual() + GIGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="systolith_fuzz_") as name:
        os.chdir(name)
        for seed in range(first, last):
            _tell(f"try {seed}")
            good, outcome = attempt(kind, seed, Path(name))
            _tell(f"{'done' if good else 'wrong'} {seed} {' '.join(outcome.split())}")


def _tell(line: str) -> None:
    os.write(1, f"{line}\n".encode(errors="backslashreplace"))


def _place() -> str:
    """Where an exception comes from: the last lines of our own code."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[:-6:-1])


def _hang(*_) -> None:
    raise Hang


def _virtual() -> int:
    """Bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
