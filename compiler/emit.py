"""Every level of a compilation as text: `systolith compile --emit graph|tiles|schedule|asm`."""

from collections.abc import Callable, Sequence

from systolith.compiler.compile import Compiled
from systolith.compiler.ir import Graph
from systolith.compiler.plan import Planned
from systolith.compiler.step import Step
from systolith.errors import SystolithError
from systolith.isa import Instruction, disassemble

__all__ = ["LEVELS", "emit", "emit_asm", "emit_graph", "emit_schedule", "emit_tiles"]


def emit(compiled: Compiled, level: str) -> str:
    """One level of a compilation as text. Raises SystolithError for a level that does not exist."""
    if level not in LEVELS:
        raise SystolithError(f"Level must be one of {', '.join(LEVELS)}, not {level!r}")
    return LEVELS[level](compiled)


def emit_graph(graph: Graph) -> str:
    """Inputs, layers in order, outputs."""
    lines = [f"graph {graph.name}"]
    lines += [
        f"input {port.name}: {port.dtype}{list(port.shape)} -> {_value(graph, port.value)}" for port in graph.inputs
    ]
    for layer in graph.layers:
        lines.append(
            f"{layer.op} {layer.name}: {layer.input} -> {_value(graph, layer.output)} "
            f"weights {list(layer.weights.shape)} stride {list(layer.stride)} dilation {list(layer.dilation)} "
            f"pads {list(layer.pads)} groups {layer.groups} "
            f"clamp [{layer.low}, {layer.high}]"
        )
    lines += [f"output {port.name}: {port.value} -> {port.dtype}{list(port.shape)}" for port in graph.outputs]
    return "\n".join(lines)


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
    places = [
        f"{name} {'word ' + str(place.sram) if place.sram is not None else f'{place.home.name}+{place.offset}'}"
        for name, place in ((job.layer.input, item.source), (job.layer.output, item.target))
    ]
    return "\n".join(
        [
            f"layer {job.index} {job.layer.name}: {' -> '.join(places)}",
            f"  rows {_runs(plan.heights)}; columns {_runs(plan.widths)}; images {job.images}",
            f"  output blocks {job.out_blocks}, {plan.group} at a time; K tiles {job.k_tiles} in boxes of "
            f"{_runs([box.tiles for box in plan.boxes])}; packing {job.packing}; input kept: {plan.keep.value}",
            f"  staging at word {item.hole[0]}: input {plan.input[1]} x {plan.input[0]}, "
            f"output {plan.output[1]} x {plan.output[0]} words",
            f"  estimate: array {plan.costs.array}, read {plan.costs.read}, all {plan.costs.all} cycles",
        ]
    )


def _value(graph: Graph, name: str) -> str:
    value = graph.values[name]
    return f"{name} {list(value.dims)} (scale {value.scale:g}, zero point {value.zero_point})"


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
    "graph": lambda compiled: emit_graph(compiled.graph),
    "tiles": lambda compiled: emit_tiles(compiled.planned),
    "schedule": lambda compiled: emit_schedule(compiled.steps),
    "asm": lambda compiled: emit_asm(compiled.instructions),
}
