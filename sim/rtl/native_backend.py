"""The `rtl` backend: the Verilated accelerator in the native harness, driven through its registers, cycle by cycle."""

import ctypes
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from systolith import registers
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.file_io import replacing
from systolith.isa import INSTRUCTION_BYTES
from systolith.sim.host.memory_image import Image
from systolith.sim.host.memory_model import STANDARD, MemoryModel
from systolith.sim.rtl import driver, native_build
from systolith.sim.rtl.driver import OFFSETS, Measurement

__all__ = ["Accelerator", "ProtocolError", "check_waves", "simulate"]

CHUNK = 1_000_000
"""Cycles between two looks at Python, for interrupts from the keyboard."""
WATCHDOG = 1_000_000
MAX_CYCLES = 20_000_000_000
ROOM = 1 << 20
"""Bytes that must be free on a disk after waves have been written to it, or they may be cut."""


class ProtocolError(RuntimeError):
    """The accelerator broke the AXI protocol or left the memory: a bug in the hardware, not bad input."""


class Settings(ctypes.Structure):
    """`struct Settings` of sim/rtl/native/harness.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_uint64) for name in ("origin", "size", "error_low", "error_high", "seed")),
        *((name, ctypes.c_uint32) for name in ("read_latency", "write_latency", "bandwidth", "stall", "outstanding",
                                               "instructions")),
        ("retired", ctypes.c_void_p),
    ]  # fmt: skip


def simulate(
    code: bytes,
    config: Config,
    image: Image,
    memory: MemoryModel = STANDARD,
    watchdog: int = WATCHDOG,
    max_cycles: int = MAX_CYCLES,
    waves: Path | None = None,
) -> Measurement:
    """Run the program in region CODE of `image` to its end; the memory is changed in place.

    Raises HardwareFault if the accelerator stops with an error, ProtocolError if it breaks the AXI protocol,
    SystolithError if it has not come to an end after `max_cycles`.
    """
    with Accelerator(config, image, code, memory, waves) as accelerator:
        return accelerator.run(watchdog, max_cycles)


class Accelerator:
    """One model and its memory, for a `with` statement. `run` may be called again, after an error once it was `reset`,
    with another `image` in the same memory, too."""

    def __init__(
        self,
        config: Config,
        image: Image,
        code: bytes = b"",
        memory: MemoryModel = STANDARD,
        waves: Path | None = None,
        library: Path | None = None,
    ):
        self.config, self.image, self.code = config, image, code
        self._waves = ExitStack()
        """Holds the file that becomes `waves`."""
        with ExitStack() as stack:
            trace = stack.enter_context(_trace(waves)) if waves else None
            self._library = _load(library or native_build.library(config, waves.suffix[1:] if waves else None))
            self._waves = stack.pop_all()
        self._retired = np.full(len(code) // INSTRUCTION_BYTES, -1, np.int64)
        low, high = memory.error
        settings = Settings(
            image.data.ctypes.data,
            image.origin,
            image.data.size,
            low,
            high,
            memory.seed,
            memory.read_latency,
            memory.write_latency,
            round(memory.bandwidth * 65536),
            round(memory.stall * 65536),
            memory.outstanding,
            len(self._retired),
            self._retired.ctypes.data,
        )
        self._harness = self._library.harness_new(ctypes.byref(settings), os.fsencode(trace) if trace else None)

    def __enter__(self) -> "Accelerator":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _) -> None:
        self._library.harness_delete(self._harness)
        self._harness = None
        # After a fault the waves are whole, and wanted; after an interrupt they are neither.
        interrupted = kind is not None and not issubclass(kind, Exception)
        self._waves.__exit__(*((kind, value, None) if interrupted else (None, None, None)))

    def run(self, watchdog: int = WATCHDOG, max_cycles: int = MAX_CYCLES) -> Measurement:
        """Set up the registers, start, wait for the interrupt, and read what happened."""
        driver.check_identity(
            self.config, *(self.read(OFFSETS[name]) for name in ("id", "fingerprint_lo", "fingerprint_hi"))
        )
        for offset, value in driver.setup_writes(self.image, watchdog):
            self.write(offset, value)
        self._retired[:] = -1
        self.write(*driver.START)
        begin, started = self._cycles(), time.perf_counter()
        while not self._library.harness_run(self._harness, min(CHUNK, max_cycles)):
            self._check_protocol()
            if self._cycles() - begin >= max_cycles:
                raise SystolithError(f"Accelerator must finish within {max_cycles} cycles: it has not")
        simulated, seconds = self._cycles() - begin, time.perf_counter() - started
        self._check_protocol()
        if self.read(OFFSETS["status"]) & registers.STATUS_ERROR:
            raise driver.fault(self.read(OFFSETS["error"]), self.read(OFFSETS["error_instruction"]), self.code)
        counters = driver.counters([self.read(offset) for offset in driver.counter_reads()])
        return Measurement(
            counters["cycles"], counters, simulated, seconds, np.where(self._retired < 0, -1, self._retired - begin)
        )

    def reset(self) -> None:
        """Soft reset; returns when the accelerator is idle."""
        self.write(OFFSETS["control"], registers.CONTROL_RESET)
        for _ in range(1000):
            if not self.read(OFFSETS["status"]) & registers.STATUS_BUSY:
                return
        raise RuntimeError("The accelerator does not come out of its soft reset")

    def retired(self, index: int) -> bool:
        """Whether an instruction retired in the last run."""
        return bool(self._retired[index] >= 0)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        self._answer(self._library.harness_write(self._harness, offset, value), f"write of register 0x{offset:03x}")

    def read(self, offset: int) -> int:
        """Read a register."""
        return self._answer(self._library.harness_read(self._harness, offset), f"read of register 0x{offset:03x}")

    def _answer(self, value: int, what: str) -> int:
        if value < 0:
            raise ProtocolError(f"The AXI4-Lite port did not answer a {what}")
        if value >> 32:
            raise ProtocolError(f"The AXI4-Lite port answered a {what} with error {value >> 32}")
        return value

    def _cycles(self) -> int:
        return self._library.harness_cycles(self._harness)

    def _check_protocol(self) -> None:
        if text := self._library.harness_violation(self._harness).decode():
            raise ProtocolError(f"The accelerator broke a rule of its AXI port: {text}")


@contextmanager
def _trace(waves: Path) -> Iterator[Path]:
    """The file to trace to, which becomes `waves` if it is whole."""
    check_waves(waves)
    with replacing(waves) as trace:
        yield trace
        if shutil.disk_usage(trace.parent).free < ROOM:
            raise SystolithError(f"{waves}: cannot be written: the disk is full")  # The trace writers do not tell.


def check_waves(waves: Path) -> None:
    """Raises SystolithError for a file that waves cannot go to."""
    if waves.suffix not in (".vcd", ".fst"):
        raise SystolithError(f"Waves must go to a .vcd or .fst file, not {str(waves)!r}")
    if waves.exists() and not waves.is_file():
        raise SystolithError(f"Waves must go to a regular file, not {str(waves)!r}")


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:  # A file system without programs, say.
        raise SystolithError(f"{path}: cannot be loaded: {error}; set SYSTOLITH_CACHE to another folder") from None
    handle, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    for name, result, arguments in (
        ("new", handle, (handle, ctypes.c_char_p)),
        ("delete", None, (handle,)),
        ("write", ctypes.c_int64, (handle, u32, u32)),
        ("read", ctypes.c_int64, (handle, u32)),
        ("run", ctypes.c_int, (handle, u64)),
        ("cycles", u64, (handle,)),
        ("violation", ctypes.c_char_p, (handle,)),
    ):
        function = getattr(library, f"harness_{name}")
        function.restype, function.argtypes = result, arguments
    return library
