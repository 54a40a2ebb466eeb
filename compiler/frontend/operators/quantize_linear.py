"""QuantizeLinear and DequantizeLinear, and the scales and zero points of the quantized operators."""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.fusing.finish import emit
from systolith.compiler.frontend.fusing.requantize import join, requantized
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Layers, shift
from systolith.compiler.frontend.values.tensors import (
    Constant,
    Dequantized,
    DequantizedConstant,
    FloatInput,
    Function,
    PendingConcat,
    PendingConv,
    PendingSfu,
    Quantized,
    Tensor,
    describe,
)

__all__ = ["activation_parameters", "constant", "dequantize", "integers", "quantize", "scale_of"]

EIGHT_BITS = (np.dtype(np.int8), np.dtype(np.uint8))
CONSTANTS = (*EIGHT_BITS, np.dtype(np.int16), np.dtype(np.uint16), np.dtype(np.int32))
OUTPUT_TYPES = {0: np.dtype(np.uint8), 2: np.dtype(np.uint8), 3: np.dtype(np.int8)}
"""What attribute 'output_dtype' names; 0 is its default."""


def quantize(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """QuantizeLinear: ends a layer, starts the network, folds a constant, or changes nothing."""
    values = node.attributes(axis=1, block_size=0, saturate=1, output_dtype=0, precision=0)
    node.require(values, block_size=0, saturate=1, precision=0)
    named = values["output_dtype"]
    if named not in OUTPUT_TYPES:
        raise node.unsupported(f"attribute 'output_dtype' must be 2 (uint8) or 3 (int8), not {named}")
    x, scale, zero_point = _parameters(node, inputs, OUTPUT_TYPES[named])
    if named and zero_point.dtype != OUTPUT_TYPES[named]:
        raise node.error(
            f"attribute 'output_dtype' must be the type of the zero point, {zero_point.dtype}, not {named}"
        )
    if isinstance(x, Constant | DequantizedConstant):
        real = Constant(x.real) if isinstance(x, DequantizedConstant) else x
        return _quantize_constant(node, real, scale, zero_point, values["axis"])
    scalar_scale, scalar_zero_point = activation_parameters(node, scale, zero_point)
    dtype = zero_point.dtype
    if isinstance(x, PendingConv | PendingSfu | Function):
        return emit(x, scalar_scale, scalar_zero_point, dtype, node.proto.output[0], layers)
    if isinstance(x, PendingConcat):
        return join(x, scalar_scale, scalar_zero_point, dtype, node.proto.output[0], layers)
    if isinstance(x, FloatInput):
        x.array.dtype = x.array.dtype or dtype
        x.array.agree(node, scalar_scale, scalar_zero_point)
        return Quantized(x.array, x.view, dtype)
    if isinstance(x, Dequantized):
        return requantized(node, x.quantized, scalar_scale, scalar_zero_point, dtype, node.proto.output[0], layers)
    raise node.error(f"input 'x' must be float32, not {describe(x)}")


def dequantize(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """DequantizeLinear of a constant or of an activation."""
    values = node.attributes(axis=1, block_size=0, output_dtype=0)
    node.require(values, block_size=0)
    if values["output_dtype"] not in (0, 1):
        raise node.unsupported(f"attribute 'output_dtype' must be 1 (float32), not {values['output_dtype']}")
    x, scale, zero_point = _parameters(node, inputs, _input_type(inputs[0]))
    if isinstance(x, Constant):
        if x.values.dtype not in CONSTANTS:
            raise node.unsupported(f"input 'x' must be of 8 or 16 bits, or int32, not {x.values.dtype}")
        axis = _axis(node, values["axis"], x.values.ndim) if scale.ndim else 0
        if scale.ndim and len(scale) != x.values.shape[axis]:
            raise node.error(
                f"input 'x_scale' must have {x.values.shape[axis]} elements (axis {axis}), not {len(scale)}"
            )
        return DequantizedConstant(x.values, scale, zero_point, axis)
    if not isinstance(x, Quantized):
        raise node.error(f"input 'x' must be int8 or uint8, not {describe(x)}")
    if zero_point.dtype != x.dtype:
        raise node.error(f"input 'x_zero_point' must be {x.dtype} as the input is, not {zero_point.dtype}")
    x.array.agree(node, *activation_parameters(node, scale, zero_point))
    return Dequantized(x)


def constant(node: Node, tensor: Tensor | None, name: str) -> NDArray:
    """The values of an input that must be a constant, dequantized ones as real numbers."""
    if isinstance(tensor, DequantizedConstant):
        return tensor.real
    if not isinstance(tensor, Constant):
        raise node.unsupported(f"input '{name}' must be a constant, not {describe(tensor)}")
    return tensor.values


def integers(node: Node, tensor: Tensor | None, name: str) -> list[int]:
    """The numbers of an input that must be constant integers."""
    values = constant(node, tensor, name)
    if values.dtype not in (np.int32, np.int64):
        raise node.error(f"input '{name}' must be int32 or int64, not {values.dtype}")
    return values.reshape(-1).tolist()


def scale_of(node: Node, tensor: Tensor | None, name: str) -> NDArray[np.float32]:
    """Scales of an input: float32; a scalar, or 1-D."""
    scale = constant(node, tensor, name)
    if scale.dtype != np.float32:
        raise node.unsupported(f"input '{name}' must be float32, not {scale.dtype}")
    if scale.ndim > 1:
        raise node.unsupported(f"input '{name}' must be a scalar or 1-D, not of shape {scale.shape}")
    return scale.reshape(()) if scale.size == 1 else scale


def activation_parameters(node: Node, scale: NDArray, zero_point: NDArray) -> tuple[np.float32, int]:
    """Scale and zero point (int8 domain) of an activation, which has one of each."""
    if scale.ndim or zero_point.size != 1:
        raise node.unsupported(
            f"an activation must have one scale and zero point, not {scale.size} and {zero_point.size}"
        )
    if zero_point.dtype not in EIGHT_BITS:
        raise node.unsupported(f"an activation must be int8 or uint8, not {zero_point.dtype}")
    if not (np.isfinite(scale) and scale >= np.finfo(np.float32).tiny):
        raise node.unsupported(f"the scale of an activation must be a normal positive float32, not {float(scale):.6g}")
    return np.float32(scale), int(zero_point.reshape(-1)[0]) - shift(zero_point.dtype)


def _parameters(
    node: Node, inputs: list[Tensor | None], default: np.dtype
) -> tuple[Tensor | None, NDArray[np.float32], NDArray]:
    """The three inputs: tensor, scale and zero point, which is 0 of type `default` where there is none."""
    x, scale_tensor, zero_tensor = (*inputs, None)[:3]
    scale = scale_of(node, scale_tensor, "scale")
    if zero_tensor is None:
        return x, scale, np.zeros(scale.shape, default)
    zero_point = constant(node, zero_tensor, "zero_point")
    zero_point = zero_point.reshape(()) if zero_point.size == 1 else zero_point
    if zero_point.shape != scale.shape:
        raise node.error(f"input 'zero_point' must have the shape of the scale, {scale.shape}, not {zero_point.shape}")
    return x, scale, zero_point


def _input_type(x: Tensor | None) -> np.dtype:
    """The type of an integer input."""
    if isinstance(x, Constant):
        return x.values.dtype
    return x.dtype if isinstance(x, Quantized) else np.dtype(np.uint8)


def _quantize_constant(node: Node, x: Constant, scale: NDArray, zero_point: NDArray, axis: int) -> Constant:
    if x.values.dtype != np.float32:
        raise node.unsupported(f"input 'x' must be float32, not {x.values.dtype}")
    if zero_point.dtype not in EIGHT_BITS:
        raise node.unsupported(f"output must be int8 or uint8, not {zero_point.dtype}")
    if scale.ndim:
        axis = _axis(node, axis, x.values.ndim)
        if len(scale) != x.values.shape[axis]:
            raise node.error(
                f"input 'y_scale' must have {x.values.shape[axis]} elements (axis {axis}), not {len(scale)}"
            )
        shape = [-1 if i == axis else 1 for i in range(x.values.ndim)]
        scale, zero_point = scale.reshape(shape), np.broadcast_to(zero_point, scale.shape).reshape(shape)
    limits = np.iinfo(zero_point.dtype)
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise node.unsupported("scales to quantize a constant with must be positive and finite")
    if np.isnan(x.values).any():
        raise node.unsupported("input 'x' must be numbers; the constant has NaN")
    with np.errstate(over="ignore"):
        rounded = np.rint(x.values / scale) + zero_point.astype(np.float32)
    return Constant(np.clip(rounded, limits.min, limits.max).astype(zero_point.dtype))


def _axis(node: Node, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise node.error(f"attribute 'axis' must be from {-rank} to {rank - 1}, not {axis}")
    return axis % rank
