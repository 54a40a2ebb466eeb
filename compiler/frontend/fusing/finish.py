"""Requantization at the end of a layer: real values become 8-bit integers with a scale and a zero point."""

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.fusing.affine import affine, is_affine
from systolith.compiler.frontend.fusing.parts import append_parts
from systolith.compiler.frontend.fusing.table import function_table
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Array, Layers, image_roles
from systolith.compiler.frontend.values.tensors import Function, PendingConv, PendingSfu, Quantized
from systolith.compiler.ir.graph import Add, Conv, Multiply, SfuOp
from systolith.numerics import add_constants, output_scale

__all__ = ["emit"]

TINY = float(np.finfo(np.float32).tiny)
BEYOND = 512
"""Steps from the zero point to where every 8-bit result is limited."""


def emit(
    x: PendingConv | PendingSfu | Function,
    scale: np.float32,
    zero_point: int,
    dtype: np.dtype,
    name: str,
    layers: Layers,
) -> Quantized:
    """Finish a layer: its output `name` has that scale and zero point (int8 domain). Appends it to `layers`."""
    match x:
        case Function() if is_affine(x):
            return _emit_sum(affine(x), scale, zero_point, dtype, name, layers)
        case Function():
            return _emit_table(x, scale, zero_point, dtype, name, layers)
        case PendingSfu():
            return _emit_map(x, scale, zero_point, dtype, name, layers)
        case PendingConv():
            return _emit_sum(x, scale, zero_point, dtype, name, layers)


def _emit_sum(
    x: PendingConv, scale: np.float32, zero_point: int, dtype: np.dtype, name: str, layers: Layers
) -> Quantized:
    low, high = _limits(x, scale, zero_point)
    layer = replace(_requantized(x, scale), output=name, zero_point=zero_point, low=low, high=high)
    array = Array(name, x.dims, dtype, scale, zero_point, image_roles(x.dims))
    if x.parts:
        append_parts(layer, x.parts, array, layers)
    else:
        layers.append((layer, array))
    return Quantized(array, x.view, dtype)


def _requantized(x: PendingConv, scale: np.float32) -> Conv:
    """The layer with its factors, for an output of that scale. A channel that is constant has its result as bias."""
    with np.errstate(over="ignore", under="ignore"):
        factor = output_scale(float(x.x_scale), x.w_scale, float(scale))
    ratio = float(x.x_scale) * x.w_scale.astype(np.float64) / float(scale)
    shape = x.layer.bias.shape
    factor, ratio = np.broadcast_to(factor, shape), np.broadcast_to(ratio, shape)
    real = _constants(x, ratio)
    constant = ~np.isnan(real)
    _require_normal(x.node, "x_scale * w_scale / y_scale", factor[~constant])
    with np.errstate(over="ignore"):
        steps = np.rint(real.astype(np.float32) / scale)
    off = np.zeros(shape) if x.rounding is None else x.rounding * ratio
    off = off if x.unrounded is None else np.where(constant, 0, off)
    wrong = ~(off <= 0.5) & ~(np.abs(steps) > BEYOND + off)
    if wrong.any():
        raise x.node.unsupported(
            "bias must be within half a step of the output when it is rounded to x_scale * w_scale, not "
            f"{off[wrong].max():.3g} off"
        )
    steps = np.clip(steps, -BEYOND, BEYOND)
    return replace(
        x.layer,
        weights=np.where(constant[:, None, None, None], np.int8(0), x.layer.weights),
        bias=np.where(constant, steps, x.layer.bias).astype(np.int32),
        scale=np.where(constant, np.float32(1), factor),
    )


def _constants(x: PendingConv, ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """The real result of channels that are constant, NaN for the others; `ratio` is 1 in the accumulator in steps."""
    # No accumulator reaches half a step where the ratio is that small.
    real = np.where((ratio >= 0) & (ratio < TINY), 0.0, np.nan)
    if x.unrounded is not None and x.rounding is not None:
        alone = ~x.layer.weights.any(axis=(1, 2, 3))
        real = np.where(alone & (x.rounding * ratio > 0.5), x.unrounded, real)
    if x.constant is not None:
        real = np.where(np.isnan(x.constant), real, x.constant)
    return real


def _emit_map(
    x: PendingSfu, scale: np.float32, zero_point: int, dtype: np.dtype, name: str, layers: Layers
) -> Quantized:
    low, high = _limits(x, scale, zero_point)
    layer = replace(x.layer, output=name)
    if x.operand and x.signs:
        layer = replace(layer, add=Add(*_addition(x, x.operand, x.signs, scale), zero_point, low, high))
    else:
        if x.operand:
            layer = replace(layer, multiply=Multiply(x.operand.name, _zeros(x, x.operand)))
        with np.errstate(over="ignore", under="ignore"):
            x_scale = float(np.prod(np.array(x.scales, np.float32)))
            layer = replace(layer, x_scale=x_scale, y_scale=float(scale), zero_point=zero_point, low=low, high=high)
            smallest = layer.factor(prod(layer.window.kernel) if layer.reduce == "average" else 1)
            _require_normal(x.node, "x_scale / y_scale", np.array([layer.factor(), smallest]))
    array = x.array.same(name, dtype, scale, zero_point)
    layers.append((layer, array))
    return Quantized(array, x.view, dtype)


def _addition(
    x: PendingSfu, operand: Array, signs: tuple[int, int], scale: np.float32
) -> tuple[str, tuple[int, int], tuple[int, int, int]]:
    """Operand, zero points and constants of `ir.Add`."""
    try:
        first, second, places = add_constants(float(x.scales[0]), float(x.scales[1]), float(scale))
    except OverflowError as error:
        raise x.node.unsupported(str(error)) from None
    return operand.name, _zeros(x, operand), (signs[0] * first, signs[1] * second, places)


def _zeros(x: PendingSfu, operand: Array) -> tuple[int, int]:
    assert x.array.zero_point is not None and operand.zero_point is not None
    return x.array.zero_point, operand.zero_point


def _emit_table(
    x: Function, scale: np.float32, zero_point: int, dtype: np.dtype, name: str, layers: Layers
) -> Quantized:
    """The function as a table, as limits if it is no more than that, or as nothing."""
    source = x.leaf.quantized
    table = function_table(x, scale, zero_point, dtype)
    layer = SfuOp(x.node.name, x.node.op, source.array.name, name, table=table)
    if (source.array.scale, source.array.zero_point) == (scale, zero_point):
        low, high = int(table.min()), int(table.max())
        values = np.arange(256).astype(np.uint8).view(np.int8)
        if source.dtype == dtype and (table == values).all():
            return Quantized(source.array, x.view, dtype)
        if (table == np.clip(values, low, high)).all():
            layer = replace(layer, low=low, high=high, table=None)
    array = source.array.same(name, dtype, scale, zero_point)
    array.function = x
    layers.append((layer, array))
    return Quantized(array, x.view, dtype)


def _require_normal(node: Node, name: str, factor: np.ndarray) -> None:
    normal = np.isfinite(factor) & (factor >= TINY)
    if not normal.all():
        raise node.unsupported(f"{name} must be a normal positive float32, not {factor[~normal][0]}")


def _limits(x: PendingConv | PendingSfu, scale: np.float32, zero_point: int) -> tuple[int, int]:
    """Real limits as int8: quantization is monotone, so clamping after it equals clamping before it."""

    def limit(bound: np.float32) -> int:
        with np.errstate(over="ignore"):
            return int(np.clip(np.rint(np.float32(bound) / scale) + zero_point, -128, 127))

    return -128 if x.low is None else limit(x.low), 127 if x.high is None else limit(x.high)
