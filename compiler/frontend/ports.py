"""Network inputs and outputs: how the arrays that a user sees lie in (batch, channels, height, width)."""

from math import prod

import numpy as np
from onnx import TensorProto, ValueInfoProto

from systolith.compiler.frontend.fusing.channel_order import settled
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Array, Layers
from systolith.compiler.frontend.values.images import rebased
from systolith.compiler.frontend.values.tensors import Dequantized, FloatInput, Quantized, Tensor, describe
from systolith.compiler.frontend.values.views import View, merge, strided
from systolith.compiler.ir.graph import Port, SfuOp
from systolith.errors import SystolithError, UnsupportedError
from systolith.program_rules import LARGEST_VALUES

__all__ = ["input_port", "input_tensor", "output_port"]


def _is_made(array: Array, layers: Layers) -> bool:
    """Whether a layer makes the array, or parts of it; else it is a network input or a part of one."""
    made: set[str] = set()
    for layer, other in layers:
        part: Array | None = other if layer is not None else None
        while part is not None:
            made.add(part.name)
            part = part.whole
    return array.name in made


def input_tensor(port: ValueInfoProto, where: str, batch: int) -> FloatInput | Quantized:
    """A network input. A symbolic first dimension becomes `batch`."""
    dtype = _element_type(port, f"{where}: input '{port.name}'")
    array = Array(port.name, _shape(port, where, batch))
    if dtype == np.float32:
        return FloatInput(array, strided(array.shape))
    array.dtype = dtype
    return Quantized(array, strided(array.shape), dtype)


def _shape(port: ValueInfoProto, where: str, batch: int) -> tuple[int, ...]:
    if not port.type.tensor_type.HasField("shape"):
        raise UnsupportedError(f"{where}: input '{port.name}' must have a shape; the file gives none", port.name)
    shape = []
    for i, dim in enumerate(port.type.tensor_type.shape.dim):
        size = dim.dim_value if dim.HasField("dim_value") else 0
        if i == 0 and not dim.HasField("dim_value"):
            size = batch
        elif dim.HasField("dim_value") and size == 0:
            message = f"{where}: input '{port.name}' must have elements, not size 0 in dimension {i}"
            raise UnsupportedError(message, port.name)
        if size < 1:
            raise UnsupportedError(
                f"{where}: input '{port.name}' must have a fixed size in dimension {i} "
                f"(only the first, the batch, may be symbolic), not {dim.dim_param or size!r}", port.name
            )  # fmt: skip
        shape.append(size)
    if prod(shape) > LARGEST_VALUES:
        raise SystolithError(
            f"{where}: input '{port.name}' must have at most {LARGEST_VALUES} elements, not shape {tuple(shape)}"
        )
    return tuple(shape)


def input_port(name: str, x: FloatInput | Quantized, where: str) -> Port:
    """A network input after the walk, which has found what its axes are."""
    array = x.array
    if array.roles is None or array.scale is None or array.dtype is None:
        message = f"{where}: input '{name}' must be read by a layer; none of them reads it"
        raise UnsupportedError(message, name)
    order: list[int] = []
    axes = [merge(axis) for axis in x.view.axes]
    for role in array.roles:
        mine = [i for i, axis in enumerate(axes) if axis and role.stride <= axis[0].stride < role.end]
        if prod(x.shape[i] for i in mine) != role.size:
            raise UnsupportedError(
                f"{where}: input '{name}' of shape {x.shape} must have channels, height and "
                "width in axes of their own; the Reshape behind it splits one",
                name,
            )
        order += mine
    return Port(
        name,
        x.shape,
        "float32" if isinstance(x, FloatInput) else array.dtype.name,
        array.name,
        _with_ones(order, x.shape),
        array.dtype.name,
    )


def output_port(node: Node, tensor: Tensor, name: str, layers: Layers) -> Port:
    """A network output, which `node` makes. What no layer makes is copied by one."""
    x = settled(node, tensor, name, layers)
    if not isinstance(x, Quantized | Dequantized):
        raise node.unsupported(f"output '{name}' must be an 8-bit tensor or its DequantizeLinear, not {describe(x)}")
    quantized = x.quantized if isinstance(x, Dequantized) else x
    dims, view = rebased(node, quantized)
    if not _is_made(quantized.array, layers):
        array = quantized.array.moved(f"{name}:output", dims)
        layers.append((SfuOp(array.name, "Identity", quantized.array.name, array.name), array))
        quantized = Quantized(array, view, quantized.dtype)
    order = _order(view)
    if order is None:
        raise node.unsupported(f"output '{name}' must be a permutation of what a layer makes; a Reshape that "
                               "moves data is not supported")  # fmt: skip
    dtype = "float32" if isinstance(x, Dequantized) else quantized.dtype.name
    return Port(name, x.shape, dtype, quantized.array.name, order, quantized.dtype.name)


def _order(view: View) -> tuple[int, ...] | None:
    """Axes of the view in the order in which they make the row-major array, None where there is none."""
    if any(len(axis) > 1 for axis in view.axes):
        return None
    axes = [i for i, axis in enumerate(view.axes) if axis]
    return _with_ones(sorted(axes, key=lambda i: -view.axes[i][0].stride), view.shape)


def _with_ones(order: list[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The order completed by axes of size 1; where that makes it no permutation at all, it is the identity."""
    ones = [i for i in range(len(shape)) if shape[i] == 1]
    return tuple(range(len(shape))) if order == sorted(order) else (*ones, *order)


def _element_type(port: ValueInfoProto, label: str) -> np.dtype:
    kind = port.type.tensor_type.elem_type if port.type.HasField("tensor_type") else 0
    types: dict[int, type] = {TensorProto.FLOAT: np.float32, TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8}
    if kind not in types:
        kinds: dict[int, str] = {number: name.lower() for name, number in TensorProto.DataType.items()}
        raise UnsupportedError(f"{label} must be float32, int8 or uint8, not {kinds.get(kind, kind)}", port.name)
    return np.dtype(types[kind])
