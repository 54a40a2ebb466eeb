"""A broken program on the RTL against the instruction simulator: the fault, what was stored until then, and a good
program on the same accelerator afterwards.

The hardware must report one of `Simulator.faults`, and where there are none, exactly what the simulator reports. STORE
runs in order, so memory holds what the retired ones stored, and of later ones any part.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import OFFSET_BITS, Instruction, Opcode, Region, Unit
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import Image
from systolith.sim.host.memory_model import MemoryModel
from systolith.sim.isa import simulator as isa_sim
from systolith.sim.isa.checks import Constants
from systolith.sim.isa.simulator import Simulator
from systolith.sim.isa.state import State
from systolith.sim.rtl.native_backend import Accelerator
from systolith.sim.stimulus.broken_program import BrokenProgram
from systolith.sim.stimulus.program import RandomProgram

__all__ = ["Expected", "compare_fault", "compare_orders", "expect"]

WATCHDOG = 20_000
OFFSETS = 1 << OFFSET_BITS
Key = tuple[str, int, int | None, int]


def key(fault: HardwareFault) -> Key:
    """All that the registers tell of a fault."""
    return fault.code, int(fault.unit), fault.index, fault.detail


@dataclass(frozen=True)
class Expected:
    """What may happen: the faults one of which is reported (none: the program ends); the rows that were stored, as
    first byte in OUTPUT and bytes, and the number of them before the first STORE, and after each whole one; and whether
    instructions ran that leave unknown values."""

    faults: frozenset[Key]
    rows: list[tuple[int, NDArray[np.uint8]]]
    ends: list[int]
    loose: bool


def expect(broken: BrokenProgram, config: Config, image: Image, order: int | None = None) -> Expected:
    """Run on the instruction simulator; `image` is changed. `order`: seed of the order of its units."""
    simulator = Simulator(config, image, order, broken.random.program.code)
    stage, rows, ends = simulator.stages[Unit.STORE], list[tuple[int, NDArray[np.uint8]]](), [0]
    store = stage.act
    assert store

    def noted(state: State, i: Instruction, constants: Constants) -> None:
        for row in _rows(i, constants["target"]):
            store(state, row, constants)
            rows.append((row["offset"], state.act[row["sram"] :][: row["cols"]].view(np.uint8).reshape(-1).copy()))
        ends.append(len(rows))

    stage.act, faults = noted, frozenset[Key]()
    try:
        simulator.run()
    except HardwareFault as fault:
        faults = frozenset(map(key, simulator.faults or [fault]))
    return Expected(faults, rows, ends, any(_ran(simulator, broken, index) for index in broken.loose))


def _rows(i: Instruction, target: Mapping[str, int]) -> Iterator[Instruction]:
    """A STORE, row by row."""
    for r in range(i["rows"]):
        offset, sram = i["offset"] + r * target["row_pitch"], i["sram"] + r * target["row_stride"]
        yield replace(i, values={**i.values, "offset": offset % OFFSETS, "sram": sram, "rows": 1})


def _ran(simulator: Simulator, broken: BrokenProgram, index: int) -> bool:
    unit = broken.random.listing[index].unit
    return sum(i.unit == unit for i in broken.random.listing[: index + 1]) <= simulator.retired[unit]


def compare_fault(broken: BrokenProgram, after: RandomProgram, config: Config, memory: MemoryModel, seed: int) -> str:
    """What is wrong with a run of `broken`, and of `after` behind it; empty if nothing is. Raises what a run raises."""
    code = broken.random.program.code
    image, following = _sharing(broken.random.image(seed), after.image(seed))
    before = image.copy()
    expected = expect(broken, config, image.copy())
    with Accelerator(config, image, code, memory) as accelerator:
        found = frozenset[Key]()
        try:
            accelerator.run(WATCHDOG)
        except HardwareFault as fault:
            found = frozenset([key(fault)])
            accelerator.reset()
        if not (found <= expected.faults and bool(found) == bool(expected.faults)):
            return f"the RTL reports {sorted(found)}, the instruction simulator {sorted(expected.faults)}"
        if stray := image.stray_writes(before):
            return f"the RTL wrote at 0x{stray[0]:x}"
        retired = sum(accelerator.retired(index) for index, i in enumerate(broken.random.listing)
                      if i.form.opcode == Opcode.STORE)  # fmt: skip
        if wrong := _unknown(before.region(Region.OUTPUT), image.region(Region.OUTPUT), expected, retired):
            return f"{wrong} bytes of OUTPUT are not what {retired} STOREs leave"
        return _run_after(accelerator, following, after, config)


def compare_orders(broken: BrokenProgram, config: Config, seed: int) -> str:
    """What is wrong with a run on the instruction simulator whose units go in another order; empty if nothing is."""
    first, other = (expect(broken, config, broken.random.image(seed), order).faults for order in (None, seed))
    return "" if first == other else f"faults depend on the order of units: {sorted(first)} or {sorted(other)}"


def _unknown(before: NDArray[np.uint8], after: NDArray[np.uint8], expected: Expected, retired: int) -> int:
    """Bytes that the first `retired` STOREs cannot have left, nor any part of the others."""
    if retired >= len(expected.ends):
        return after.size
    if expected.loose:
        return 0
    whole, output = expected.ends[retired], before.copy()
    for offset, stored in expected.rows[:whole]:
        output[offset : offset + stored.size] = stored
    known = output == after
    for offset, stored in expected.rows[whole:]:
        known[offset : offset + stored.size] |= after[offset : offset + stored.size] == stored
    return int((~known).sum())


def _sharing(first: Image, second: Image) -> tuple[Image, Image]:
    """The two images in one array, which holds the first now."""
    data = np.zeros(max(first.data.size, second.data.size), np.uint8)
    data[: first.data.size] = first.data
    return (Image(data, first.origin, first.bases, first.limits),
            Image(second.data, second.origin, second.bases, second.limits))  # fmt: skip


def _run_after(accelerator: Accelerator, image: Image, after: RandomProgram, config: Config) -> str:
    """The accelerator's memory becomes that of another program, which must run as ever."""
    data = accelerator.image.data
    data[: image.data.size] = image.data
    isa_sim.simulate(after.program.code, config, image)
    accelerator.image = Image(data, image.origin, image.bases, image.limits)
    accelerator.run(WATCHDOG)
    different = int((data[: image.data.size] != image.data).sum())
    return f"{different} bytes differ after a good program behind it" if different else ""
