"""Every level of a compilation as text: `systolith compile --emit graph|tiles|schedule|asm|memory`."""

from collections.abc import Callable, Sequence

from systolith.compiler.ir.text import graph_text
from systolith.compiler.pipeline import Compiled
from systolith.compiler.plan.placement import Place
from systolith.compiler.plan.plan import Planned
from systolith.compiler.report.memory_map import memory_map
from systolith.compiler.report.meta import UNITS
from systolith.compiler.schedule.step import Step
from systolith.errors import SystolithError
from systolith.isa import Instruction, Unit, disassemble

__all__ = ["LEVELS", "emit", "emit_asm", "emit_schedule", "emit_tiles"]


def emit(compiled: Compiled, level: str) -> str:
    """One level of a compilation as text. Raises SystolithError for a level that does not exist."""
    if level not in LEVELS:
        raise SystolithError(f"Level must be one of {', '.join(LEVELS)}, not {level!r}")
    return LEVELS[level](compiled)


def emit_tiles(planned: Sequence[Planned]) -> str:
    """The plan of each layer: how it is cut, what is kept where, and what that is estimated to cost."""
    return "\n".join(_tiles(item) for item in planned)


def emit_schedule(steps: Sequence[Step]) -> str:
    """Every step with its fields, in program order, without CONFIG and tokens."""
    lines = []
    for index, step in enumerate(steps):
        if index == 0 or step.layer != steps[index - 1].layer:
            lines.append(f"layer {step.layer}:")
        lines.append(f"  {step.name:<8}" + " ".join(f"{name}={int(value)}" for name, value in step.fields.items()))
    return "\n".join(lines)


def emit_asm(instructions: Sequence[Instruction]) -> str:
    """The program as the disassembler shows it, numbered."""
    return "\n".join(f"{index:6}  {disassemble(instruction)}" for index, instruction in enumerate(instructions))


def _tiles(item: Planned) -> str:
    job, plan = item.job, item.plan
    places = [_place(job.layer.input, item.source)]
    if item.operand is not None:
        places.append(_place(job.layer.inputs[1], item.operand))
    tiles = f"K tiles {job.k_tiles} in boxes of {_runs([box.tiles for box in plan.boxes])}"
    buffers = {"input": plan.input, "second operand": plan.operand, "output": plan.output}
    staging = ", ".join(f"{name} {count} x {words}" for name, (words, count) in buffers.items() if count)
    hole, size = item.hole
    return "\n".join(
        [
            f"layer {job.index} {job.layer.name}: {', '.join(places)} -> {_place(job.layer.output, item.target)}",
            f"  {UNITS[job.unit]}; rows {_runs(plan.heights)}; columns {_runs(plan.widths)}; images {job.images}",
            f"  output blocks {job.out_blocks}, {plan.group} at a time; "
            + (f"packing {job.packing}; " if job.weights is not None else "")
            + (f"{tiles}; " if job.unit == Unit.EXECUTE else f"windows {job.kernel[0]}x{job.kernel[1]}; ")
            + f"input kept: {plan.keep.value}",
            f"  staging in words [{hole}, {hole + size}): {staging or 'nothing'}",
            f"  estimate: compute {plan.costs.array}, read {plan.costs.read}, all {plan.costs.all} cycles",
        ]
    )


def _place(name: str, place: Place) -> str:
    """A value and where it begins."""
    places = [] if place.sram is None else [f"word {place.sram}"]
    places += [] if place.region is None else [f"{place.region.name}+{place.offset}"]
    return f"{name} ({', '.join(places)})"


def _runs(values: Sequence[int]) -> str:
    """Equal neighbours together: 3, 8 x 4, 2."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return ", ".join(f"{value} x {count}" if count > 1 else str(value) for value, count in runs)


LEVELS: dict[str, Callable[[Compiled], str]] = {
    "graph": lambda compiled: graph_text(compiled.graph),
    "tiles": lambda compiled: emit_tiles(compiled.planned),
    "schedule": lambda compiled: emit_schedule(compiled.steps),
    "asm": lambda compiled: emit_asm(compiled.instructions),
    "memory": lambda compiled: memory_map(compiled.program.meta),
}
