"""Descriptions of an ONNX tensor during the walk: constant, quantized, dequantized, or the sum of a pending layer."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Array
from systolith.compiler.frontend.values.views import View
from systolith.compiler.ir.graph import Conv, Dims, SfuOp

__all__ = [
    "ConcatPart",
    "Constant",
    "Dequantized",
    "DequantizedConstant",
    "FloatInput",
    "Function",
    "Pending",
    "PendingConcat",
    "PendingConv",
    "PendingSfu",
    "Quantized",
    "Tensor",
    "describe",
    "viewed",
]


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor of the file."""

    values: NDArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape


@dataclass(frozen=True, eq=False)
class DequantizedConstant:
    """Integers of the file behind a DequantizeLinear. `scale` and `zero_point` are scalars, or 1-D along `axis`."""

    values: NDArray
    scale: NDArray[np.float32]
    zero_point: NDArray
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def whole(self) -> NDArray[np.int64]:
        """The integers without the zero point."""
        return self.values.astype(np.int64) - self._along(self.zero_point)

    @property
    def real(self) -> NDArray[np.float32]:
        """What DequantizeLinear makes of them."""
        with np.errstate(over="ignore"):
            return self.whole.astype(np.float32) * self._along(self.scale)

    def _along(self, parameter: NDArray) -> NDArray:
        kept = [-1 if i == self.axis else 1 for i in range(self.values.ndim)]
        return parameter.reshape(kept) if parameter.size > 1 else parameter.reshape(())


@dataclass(frozen=True, eq=False)
class FloatInput:
    """A float32 network input, before its QuantizeLinear."""

    array: Array
    view: View

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape


@dataclass(frozen=True, eq=False)
class Quantized:
    """An 8-bit tensor of the network; `dtype` is what ONNX has, the array holds int8."""

    array: Array
    view: View
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape


@dataclass(frozen=True, eq=False)
class Dequantized:
    """A quantized tensor behind its DequantizeLinear."""

    quantized: Quantized

    @property
    def view(self) -> View:
        return self.quantized.view

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape


@dataclass(frozen=True)
class ConcatPart:
    """One of the convolutions that a layer consists of: the taps of the kernel (rows, columns; -1: zeros), pads, dims,
    and the place of its output in the layer's: top, left, and steps."""

    taps: tuple[tuple[int, ...], tuple[int, ...]]
    pads: tuple[int, int, int, int]
    dims: Dims
    place: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class PendingConv:
    """The real result of a layer, before its QuantizeLinear.

    `layer` lacks `output`, `scale` and its clamp. 1 in the accumulator is x_scale * w_scale (one, or one for each
    channel). `dims` are the output's, and `view` shows them as ONNX has them; `low` and `high` are limits set by Relu
    or Clip. With `parts` the layer is that many convolutions. `rounding` is how far the bias is from the real one, in
    units of the accumulator. `constant` is the real result of channels whose
    bias no accumulator holds, float64, and NaN for the others; their weights are 0. `unrounded` is the real bias where
    ONNX Runtime rounds it, too.
    """

    node: Node
    layer: Conv
    x_scale: np.float32
    w_scale: NDArray[np.float32]
    dims: Dims
    view: View
    has_bias: bool = False
    low: np.float32 | None = None
    high: np.float32 | None = None
    parts: tuple[ConcatPart, ...] = ()
    rounding: NDArray[np.float64] | None = None
    constant: NDArray[np.float64] | None = None
    unrounded: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    @property
    def unit(self) -> NDArray[np.float32]:
        """The real value of 1 in the accumulator."""
        with np.errstate(over="ignore", under="ignore"):
            return np.float32(self.x_scale) * self.w_scale


@dataclass(frozen=True, eq=False)
class PendingSfu:
    """The real result of a pool, or of two tensors added or multiplied, before its QuantizeLinear.

    `layer` lacks its output, second operand, scales and clamp; `scales` are of its input and, if it has one, of its
    `operand`, which is multiplied, or added with those `signs`. The output is an array like `array`.
    """

    node: Node
    layer: SfuOp
    array: Array
    view: View
    scales: tuple[np.float32, ...]
    operand: Array | None = None
    signs: tuple[int, int] | None = None
    low: np.float32 | None = None
    high: np.float32 | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape


LONGEST_FUNCTION = 200


@dataclass(frozen=True, eq=False)
class Function:
    """A real function of a quantized tensor, element by element: a node, and what it reads. Raises UnsupportedError if
    it is of more than LONGEST_FUNCTION nodes, counted each time that one is read.

    Of `arguments`, all that is not constant is a function of `leaf`, or `leaf` itself. Constants are scalars, or 1-D
    with an element for each channel.
    """

    node: Node
    leaf: Dequantized
    arguments: "tuple[Function | Dequantized | NDArray | None, ...]"
    view: View

    def __post_init__(self):
        if self.size > LONGEST_FUNCTION:
            raise self.node.unsupported(f"a function must be of at most {LONGEST_FUNCTION} nodes")

    @cached_property
    def size(self) -> int:
        """Nodes in it, each as often as it is read."""
        return 1 + sum(argument.size for argument in self.arguments if isinstance(argument, Function))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape


@dataclass(frozen=True, eq=False)
class PendingConcat:
    """Dequantized tensors of different scales, joined along `axis` of (batch, channels, height, width) once their
    QuantizeLinear says with which scale. `dims` and `view` are the result's."""

    node: Node
    parts: tuple[Quantized, ...]
    axis: int
    dims: Dims
    view: View

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape


Pending = PendingConv | PendingSfu | Function | PendingConcat
"""What waits for its QuantizeLinear."""
Tensor = Constant | DequantizedConstant | FloatInput | Quantized | Dequantized | Pending
Viewed = FloatInput | Quantized | Dequantized | Pending


def viewed(tensor: Viewed, view: View) -> Viewed:
    """The tensor with another view of the same elements."""
    if isinstance(tensor, Dequantized):
        return Dequantized(replace(tensor.quantized, view=view))
    return replace(tensor, view=view)


def describe(tensor: Tensor | None) -> str:
    """What the tensor is, for error messages."""
    match tensor:
        case None:
            return "nothing"
        case Constant():
            return f"a {tensor.values.dtype} constant"
        case DequantizedConstant():
            return f"a dequantized {tensor.values.dtype} constant"
        case PendingConcat():
            return f"the result of {tensor.node.op} '{tensor.node.name}' without a QuantizeLinear"
        case FloatInput():
            return f"network input '{tensor.array.name}' of float32"
        case Quantized():
            return f"a tensor of {tensor.dtype}"
        case Dequantized():
            return "a dequantized tensor"
        case PendingConv() | PendingSfu() | Function():
            return f"the float32 result of {tensor.node.op} '{tensor.node.name}' without a QuantizeLinear"
