"""A graph as text: a line for each input, layer and output, with what differs from the plainest layer of its kind."""

from collections.abc import Iterator
from math import prod

from systolith.compiler.ir.graph import Add, Concat, Conv, Graph, Layer, Multiply, Select, SfuOp, Window

__all__ = ["graph_text"]

LOWEST, HIGHEST = -128, 127


def graph_text(graph: Graph) -> str:
    """Inputs, layers in order, outputs."""
    lines = [f"graph {graph.name}"]
    lines += [
        f"input {port.name}: {port.dtype}{list(port.shape)} -> {_value(graph, port.value)}" for port in graph.inputs
    ]
    for layer in graph.layers:
        details = " ".join(_details(layer))
        lines.append(f"{layer.op} {layer.name}: {_inputs(graph, layer)} -> {_value(graph, layer.output)} {details}")
    lines += [f"output {port.name}: {port.value} -> {port.dtype}{list(port.shape)}" for port in graph.outputs]
    return "\n".join(line.rstrip() for line in lines)


def _inputs(graph: Graph, layer: Layer) -> str:
    """Names; of a view, what it is a view of."""
    made = {other.output for other in graph.layers} | {port.value for port in graph.inputs}
    texts = []
    for name in layer.inputs:
        inside = graph.values[name].inside
        view = inside is not None and name not in made
        texts.append(f"{name} {_place(graph, name)}" if view else name)
    return ", ".join(texts)


def _value(graph: Graph, name: str) -> str:
    value = graph.values[name]
    place = "" if value.inside is None else f" {_place(graph, name)}"
    return f"{name} {list(value.dims)}{place} (scale {value.scale:g}, zero point {value.zero_point})"


def _place(graph: Graph, name: str) -> str:
    """Where a value lies in another one."""
    inside = graph.values[name].inside
    assert inside is not None
    starts = {"image": inside.image, "channel": inside.channel, "row": inside.top, "column": inside.left}
    steps = {"row step": inside.step_y, "column step": inside.step_x}
    offsets = [f"{axis} {start}" for axis, start in starts.items() if start]
    offsets += [f"{axis} {step}" for axis, step in steps.items() if step != 1]
    return f"in {inside.whole} at {', '.join(offsets) or 'its beginning'}"


def _details(layer: Layer) -> Iterator[str]:
    match layer:
        case Conv():
            yield f"weights {list(layer.weights.shape)}"
            yield from _window(layer.window, kernel=False)
            if layer.groups > 1:
                yield f"groups {layer.groups}"
            if layer.macs_of is not None:
                yield f"macs {layer.macs_of}"
            yield from _clamp("clamp", layer.low, layer.high)
            if layer.pool:
                yield " ".join(["then max", *_window(layer.pool)])
            yield from _second(layer.add)
        case SfuOp():
            if not layer.window.is_plain:
                yield " ".join([layer.reduce, *_window(layer.window)])
            if layer.counted is not None:
                yield f"counted pads {list(layer.counted)}"
            yield from _second(layer.multiply)
            yield from _clamp("clamp", layer.low, layer.high)
            yield from _second(layer.add)
        case Concat():
            yield f"axis {layer.axis}"
        case Select():
            yield f"channels {_ranges(layer.channels)}"
    if isinstance(layer, Conv | SfuOp) and layer.table is not None:
        yield "then table"


def _window(window: Window, kernel: bool = True) -> Iterator[str]:
    if kernel:
        yield f"{window.kernel[0]}x{window.kernel[1]}"
    if prod(window.stride) > 1:
        yield f"stride {list(window.stride)}"
    if prod(window.dilation) > 1:
        yield f"dilation {list(window.dilation)}"
    if any(window.pads):
        yield f"pads {list(window.pads)}"


def _second(second: Add | Multiply | None) -> Iterator[str]:
    match second:
        case Add():
            yield f"then add {second.operand}"
            yield from _clamp("clamp", second.low, second.high)
        case Multiply():
            yield f"times {second.operand}"


def _clamp(word: str, low: int, high: int) -> Iterator[str]:
    if (low, high) != (LOWEST, HIGHEST):
        yield f"{word} [{low}, {high}]"


def _ranges(channels: tuple[int, ...]) -> str:
    """Runs of neighbours together: 0-3, 8, 12-15."""
    runs: list[list[int]] = []
    for channel in channels:
        if runs and runs[-1][1] == channel - 1:
            runs[-1][1] = channel
        else:
            runs.append([channel, channel])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)
