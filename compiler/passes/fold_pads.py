"""Padding before a convolution or pool becomes the layer's own padding, where both read the same value there."""

from dataclasses import replace

from systolith.compiler.ir.graph import Conv, Graph, Layer, SfuOp, Window

__all__ = ["fold_pads"]

Pads = tuple[int, int, int, int]


def fold_pads(graph: Graph) -> Graph:
    """The graph whose layers read what stands before a padding. Paddings stay, even if nothing reads them then."""
    paddings: dict[str, SfuOp] = {}
    layers: list[Layer] = []
    for layer in graph.layers:
        while isinstance(layer, Conv | SfuOp) and (padding := paddings.get(layer.input)):
            folded = _folded(graph, layer, padding)
            if folded is None:
                break
            layer = folded
        if isinstance(layer, SfuOp) and _only_pads(layer) and graph.values[layer.output].inside is None:
            paddings[layer.output] = layer
        layers.append(layer)
    return replace(graph, layers=tuple(layers))


def _only_pads(layer: SfuOp) -> bool:
    window = layer.window
    changed = layer.multiply or layer.add or layer.table is not None or (layer.low, layer.high) != (-128, 127)
    plain = layer.reduce == "max" and layer.zero_point == 0 and layer.factor() == 1
    pads = any(window.pads) and min(window.pads) >= 0
    return window == Window(pads=window.pads) and pads and plain and not changed


def _folded(graph: Graph, layer: Conv | SfuOp, padding: SfuOp) -> Conv | SfuOp | None:
    """The layer with the padding in its own pads, None where that is something else."""
    before = padding.window.pads
    if isinstance(layer, Conv):
        if padding.pad != graph.values[padding.output].zero_point:
            return None
        return replace(layer, input=padding.input, pads=_sum(layer.pads, before))
    window = replace(layer.window, pads=_sum(layer.window.pads, before))
    if layer.reduce == "max":
        if any(n > 0 for n in layer.window.pads) and layer.pad != padding.pad:
            return None
        return replace(layer, input=padding.input, window=window, pad=padding.pad)
    if layer.reduce == "average" and padding.pad == layer.x_zero:
        return replace(layer, input=padding.input, window=window, counted=_sum(layer.counted or (0, 0, 0, 0), before))
    return None


def _sum(first: Pads, second: Pads) -> Pads:
    top, left, bottom, right = (a + b for a, b in zip(first, second, strict=True))
    return top, left, bottom, right
