"""What a host does with the registers to run a program: shared by the native harness and the cocotb testbench.

Plain lists of writes and reads, so that callers and coroutines alike can use them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from systolith import registers
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import INSTRUCTION_BYTES, Error, Unit
from systolith.registers import REGISTERS, counter_offset, region_offset
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import Image

__all__ = ["OFFSETS", "START", "Measurement", "check_identity", "counter_reads", "counters", "fault", "setup_writes"]

OFFSETS = {register.name: register.offset for register in REGISTERS}
START = (OFFSETS["control"], registers.CONTROL_START)
WORD = (1 << 32) - 1


@dataclass(frozen=True)
class Measurement:
    """What a run on the RTL showed. `cycles` is the hardware's own count, from the start register to done; `retired`
    the cycle of each instruction's end (-1 where unknown); `simulated` and `seconds` give the simulator's speed."""

    cycles: int
    counters: Mapping[str, int]
    simulated: int
    seconds: float
    retired: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def setup_writes(image: Image, watchdog: int) -> list[tuple[int, int]]:
    """(offset, value) of the registers to write before START: regions, interrupt, watchdog."""
    writes = [(OFFSETS["irq"], registers.IRQ_ENABLE | registers.IRQ_CLEAR), (OFFSETS["watchdog"], watchdog)]
    for region, base in image.bases.items():
        limit = image.limits[region]
        values = {"base_lo": base & WORD, "base_hi": base >> 32, "limit_lo": limit & WORD, "limit_hi": limit >> 32}
        writes += [(region_offset(region, part), value) for part, value in values.items()]
    return writes


def check_identity(config: Config, magic: int, low: int, high: int) -> None:
    """Raises SystolithError unless the registers `id` and `fingerprint` are those of `config`."""
    if magic != registers.MAGIC or high << 32 | low != config.fingerprint:
        raise SystolithError(
            f"Accelerator must have id {registers.MAGIC:08x} and fingerprint {config.fingerprint:016x} "
            f"(configuration '{config.name}'), not {magic:08x} and {high << 32 | low:016x}"
        )


def counter_reads() -> list[int]:
    """Offsets to read after a run; `counters` takes the values in this order."""
    return [counter_offset(i) + half for i in range(len(registers.COUNTERS)) for half in (0, 4)]


def counters(values: list[int]) -> dict[str, int]:
    """The counters by name."""
    return {name: values[2 * i] | values[2 * i + 1] << 32 for i, (name, _) in enumerate(registers.COUNTERS)}


def fault(error: int, instruction: int, code: bytes) -> HardwareFault:
    """The fault that the registers `error` and `error_instruction` tell of."""
    number, unit, detail = error & 0xFF, error >> 8 & 0xFF, error >> 16
    name = Error(number).name if number in set(Error) else f"{number}"
    known = next((u for u in Unit if u == unit), unit)
    index = instruction if instruction <= len(code) // INSTRUCTION_BYTES else None
    return HardwareFault(name, known, index, detail, code)
