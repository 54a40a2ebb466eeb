"""A random program on a backend against the instruction simulator: the same bytes in all of memory."""

from systolith.config import Config
from systolith.sim.host.memory_image import Image
from systolith.sim.host.memory_model import MemoryModel
from systolith.sim.isa import simulator
from systolith.sim.rtl import native_backend
from systolith.sim.stimulus.program import RandomProgram

__all__ = ["compare"]

WATCHDOG = 100_000


def compare(random: RandomProgram, config: Config, backend: str, memory: MemoryModel, seed: int) -> tuple[int, int]:
    """Bytes of memory that differ after a run, and its cycles (0 on `isa`, which runs units in a random order)."""
    expected, found = random.image(seed), random.image(seed)
    code = random.program.code
    simulator.simulate(code, config, expected)
    cycles = _run(code, config, found, backend, memory, seed)
    return int((expected.data != found.data).sum()), cycles


def _run(code: bytes, config: Config, image: Image, backend: str, memory: MemoryModel, seed: int) -> int:
    match backend:
        case "isa":
            simulator.simulate(code, config, image, seed)
            return 0
        case "rtl":
            return native_backend.simulate(code, config, image, memory, WATCHDOG).cycles
        case "cocotb":
            from systolith.sim.rtl import cocotb_backend

            return cocotb_backend.simulate(code, config, image, memory, WATCHDOG).cycles
        case _:
            raise ValueError(f"Backend must be isa, rtl or cocotb, not {backend!r}")
