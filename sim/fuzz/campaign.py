"""`make fuzz`: many damaged files of each kind, in worker processes; what must not happen is counted and named.

Run: python -m systolith.sim.fuzz.campaign [--count 20000] [--kind onnx ...] [--seed 0] [--workers 2] [--keep FOLDER]

Case SEED of a kind is made from that number alone: `--kind KIND --seed SEED --count 1` repeats one.
"""

import argparse
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from systolith.sim.fuzz.worker import KINDS

__all__ = ["Findings", "fuzz", "main"]

WORKER = (sys.executable, "-m", "systolith.sim.fuzz.worker")
CHUNK = 500
"""Cases of one process."""
PATIENCE = 120
"""Seconds without a word after which a worker is ended: a machine may be busy, and a worker ends a long case itself."""
SHOWN = 300


@dataclass
class Findings:
    """Cases by outcome, and the seeds of those that are wrong, with the reason."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.outcomes.total() + len(self.wrong)


def fuzz(kind: str, seeds: range, workers: int = 1, tell: Callable[[Findings], None] | None = None,
         command: Sequence[str] = WORKER, patience: float = PATIENCE) -> Findings:  # fmt: skip
    """Try the cases of these seeds. A case in which a worker dies, or hangs, is wrong, and the next worker goes on
    behind it. `tell` hears of the findings now and then; `command` starts a worker, which must say a word before
    `patience` seconds have passed."""
    found = Findings()
    waiting = [range(first, min(first + CHUNK, seeds.stop)) for first in range(seeds.start, seeds.stop, CHUNK)][::-1]
    running: list[_Worker] = []
    with selectors.DefaultSelector() as selector:
        while waiting or running:
            while waiting and len(running) < workers:
                worker = _Worker([*command, kind], waiting.pop())
                selector.register(worker.output, selectors.EVENT_READ, worker)
                running.append(worker)
            for key, _ in selector.select(1):
                key.data.hear(found)
            for worker in [worker for worker in running if worker.is_over(patience)]:
                running.remove(worker)
                selector.unregister(worker.output)
                if left := worker.end(found):
                    waiting.append(left)
            if tell:
                tell(found)
    return found


class _Worker:
    """A process that tries the cases of some seeds."""

    def __init__(self, command: list[str], seeds: range):
        self.seeds, self.current = seeds, seeds.start
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, str(seeds.start), str(seeds.stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        self.heard, self.rest, self.closed = time.monotonic(), b"", False

    def hear(self, found: Findings) -> None:
        """Take what it has said."""
        data = self.output.read() or b""
        self.closed = not data
        self.heard = time.monotonic()
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            what, seed, *outcome = line.decode().split(" ", 2)
            if what == "try":
                self.current = int(seed)
            else:
                self.current = int(seed) + 1
                if what == "done":
                    found.outcomes[outcome[0]] += 1
                else:
                    found.wrong[int(seed)] = outcome[0]

    def is_over(self, patience: float) -> bool:
        """Whether it has ended, or has not answered for so many seconds."""
        return self.closed or time.monotonic() - self.heard > patience

    def end(self, found: Findings) -> range | None:
        """Note the case that it died of; the seeds that are left."""
        if not self.closed:
            self.process.kill()
        _, errors = self.process.communicate()
        if self.current >= self.seeds.stop:
            return None
        code = self.process.returncode
        why = f"the process ended with {code}" if self.closed else "no answer"
        found.wrong[self.current] = f"{why}: {' '.join(errors.decode(errors='replace').split())[-SHOWN:]}"
        return range(self.current + 1, self.seeds.stop) if self.current + 1 < self.seeds.stop else None


def main(arguments: list[str] | None = None) -> int:
    """The command line: exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="folder for the files of wrong cases")
    options = parser.parse_args(arguments)
    wrong = 0
    for kind in options.kind or KINDS:
        started, told = time.monotonic(), [0.0]

        def tell(found: Findings, kind: str = kind, told: list[float] = told) -> None:
            if time.monotonic() - told[0] > 10:
                told[0] = time.monotonic()
                print(
                    f"{kind}: {found.count} of {options.count}, {len(found.wrong)} wrong", file=sys.stderr, flush=True
                )

        found = fuzz(kind, range(options.seed, options.seed + options.count), options.workers, tell)
        seconds = time.monotonic() - started
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.most_common())
        print(f"{kind}: {found.count} files in {seconds:.0f} s: {outcomes}; {len(found.wrong)} wrong", flush=True)
        for seed, reason in sorted(found.wrong.items()):
            print(f"  {kind} {seed}: {reason}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                case = KINDS[kind][0](seed)
                (options.keep / f"{kind}_{seed}{case.suffix}").write_bytes(case.data)
        wrong += len(found.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
