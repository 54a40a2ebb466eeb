"""What the front end knows of an ONNX tensor as it walks: constant, quantized, dequantized, or a layer's sum."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.node import Node
from systolith.compiler.frontend.views import Atom, View
from systolith.compiler.ir import Conv, Dims, Inside, Layer, Map, Value

__all__ = [
    "Array",
    "Constant",
    "DequantizedConstant",
    "FloatInput",
    "Function",
    "Joined",
    "Layers",
    "Mapped",
    "Part",
    "Pending",
    "Quantized",
    "Real",
    "Roles",
    "Sum",
    "Tensor",
    "describe",
    "image_roles",
    "shift",
    "viewed",
]

Roles = tuple[Atom, Atom, Atom, Atom]


@dataclass(eq=False)
class Array:
    """The int8 array behind quantized tensors: a network input, or what a layer makes. It becomes an `ir.Value`.

    `roles` are batch, channels, height and width as atoms of the row-major array of `shape`; `dtype` is the 8-bit type
    it has in the model. A network input gets roles, type, scale and zero point from the first node that needs them, and
    every other one must agree; so must the arrays that only move its elements (`linked`). A part of another array has
    that one as `whole`, and where it lies there. One made element by element has the roles of the one it is `like`; if
    by a table, `function` is what is in that, with the scale and zero point of this one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None = None
    scale: np.float32 | None = None
    zero_point: int | None = None
    own_roles: Roles | None = None
    whole: "Array | None" = None
    inside: Inside | None = None
    linked: list["Array"] = field(default_factory=list)
    like: "Array | None" = None
    function: "Function | None" = None

    @property
    def roles(self) -> Roles | None:
        return self._root().own_roles

    def same(self, name: str, dtype: np.dtype, scale: np.float32, zero_point: int) -> "Array":
        """An array of the same elements in the same places, of another type, scale and zero point."""
        return Array(name, self.shape, dtype, scale, zero_point, like=self)

    def join(self, other: "Array") -> None:
        """Have the same roles as another array of the same shape, now and later; neither has any yet."""
        mine, its = self._root(), other._root()
        if mine is not its:
            mine.like = its

    def _root(self) -> "Array":
        array = self
        while array.like is not None:
            array = array.like
        return array

    def moved(self, name: str, dims: Dims) -> "Array":
        """An array of the same type, scale and zero point for elements that a layer moves out of this one."""
        array = Array(name, dims, self.dtype, self.scale, self.zero_point, image_roles(dims), linked=self.linked)
        self.linked += [self, array] if not self.linked else [array]
        return array

    def part(self, name: str, dims: Dims, inside: Inside) -> "Array":
        """An array that lies inside this one."""
        array = self.moved(name, dims)
        array.whole, array.inside = self, inside
        return array

    def link(self, node: Node, other: "Array") -> None:
        """Give both the same scale and zero point, now or when one of them gets them."""
        if other.scale is not None and other.zero_point is not None:
            self.agree(node, other.scale, other.zero_point)
        elif self.scale is not None and self.zero_point is not None:
            other.agree(node, self.scale, self.zero_point)
        elif other is not self and other not in self.linked:
            together = [*(self.linked or [self]), *(other.linked or [other])]
            for array in together:
                array.linked = together

    def agree(self, node: Node, scale: np.float32, zero_point: int) -> None:
        """Take scale and zero point (int8 domain), or raise SystolithError if others were taken before."""
        if self.scale is None:
            for array in self.linked or [self]:
                array.scale, array.zero_point = scale, zero_point
        if (self.scale, self.zero_point) != (scale, zero_point):
            raise node.unsupported(
                f"input must have the scale {self.scale} and (as int8) zero point {self.zero_point} that "
                f"'{self.name}' was made with, not {scale} and {zero_point}"
            )

    def bind(self, node: Node, roles: Roles) -> None:
        """Take the roles of the axes, or raise SystolithError if others were taken before."""
        root = self._root()
        if root.own_roles is None:
            root.own_roles = roles
        if [_normal(role) for role in root.own_roles] != [_normal(role) for role in roles]:
            raise node.unsupported(
                f"input must have batch, channels, height and width as '{root.name}' has them; a Reshape or Transpose "
                "between layers that moves data is not supported"
            )

    def value(self) -> Value:
        """The IR's value; scale, zero point and roles must be known."""
        assert self.roles is not None and self.scale is not None and self.zero_point is not None
        batch, channels, height, width = (role.size for role in self.roles)
        return Value(self.name, (batch, channels, height, width), float(self.scale), self.zero_point, self.inside)


Layers = list[tuple[Layer | None, Array]]
"""Layers found so far, and the arrays that they make; no layer for a part that is only read."""


def _normal(role: Atom) -> Atom | None:
    return role if role.size > 1 else None


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
class Real:
    """A quantized tensor behind its DequantizeLinear."""

    quantized: Quantized

    @property
    def view(self) -> View:
        return self.quantized.view

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape


@dataclass(frozen=True)
class Part:
    """One of the convolutions that a layer consists of: the taps of the kernel (rows, columns; -1: zeros), pads, dims,
    and the place of its output in the layer's: top, left, and steps."""

    taps: tuple[tuple[int, ...], tuple[int, ...]]
    pads: tuple[int, int, int, int]
    dims: Dims
    place: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Sum:
    """The real result of a layer, before its QuantizeLinear.

    `layer` lacks `output`, `scale` and its clamp. 1 in the accumulator is x_scale * w_scale (one, or one for each
    channel). `dims` are the output's, and `view` shows them as ONNX has them; `low` and `high` are limits set by Relu
    or Clip. With `parts` the layer is that many convolutions. `rounding` is how far the bias is from the real one, in
    units of the accumulator, where ONNX Runtime does not round it.
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
    parts: tuple[Part, ...] = ()
    rounding: NDArray[np.float64] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    @property
    def unit(self) -> NDArray[np.float32]:
        """The real value of 1 in the accumulator."""
        with np.errstate(over="ignore", under="ignore"):
            return np.float32(self.x_scale) * self.w_scale


@dataclass(frozen=True, eq=False)
class Mapped:
    """The real result of a pool, or of two tensors added or multiplied, before its QuantizeLinear.

    `layer` lacks its output, second operand, scales and clamp; `scales` are of its input and, if it has one, of its
    `operand`, which is multiplied, or added with those `signs`. The output is an array like `array`.
    """

    node: Node
    layer: Map
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
    leaf: Real
    arguments: "tuple[Function | Real | NDArray | None, ...]"
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
class Joined:
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


Pending = Sum | Mapped | Function | Joined
"""What waits for its QuantizeLinear."""
Tensor = Constant | DequantizedConstant | FloatInput | Quantized | Real | Pending
Viewed = FloatInput | Quantized | Real | Pending


def viewed(tensor: Viewed, view: View) -> Viewed:
    """The tensor with another view of the same elements."""
    if isinstance(tensor, Real):
        return Real(replace(tensor.quantized, view=view))
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
        case Joined():
            return f"the result of {tensor.node.op} '{tensor.node.name}' without a QuantizeLinear"
        case FloatInput():
            return f"network input '{tensor.array.name}' of float32"
        case Quantized():
            return f"a tensor of {tensor.dtype}"
        case Real():
            return "a dequantized tensor"
        case Sum() | Mapped() | Function():
            return f"the float32 result of {tensor.node.op} '{tensor.node.name}' without a QuantizeLinear"


def image_roles(dims: Dims) -> Roles:
    """Batch, channels, height and width as atoms of a row-major array of those dims."""
    _, c, h, w = dims
    return Atom(dims[0], c * h * w), Atom(c, h * w), Atom(h, w), Atom(w, 1)


def shift(dtype: np.dtype) -> int:
    """What a value of that type has more than the int8 that carries it."""
    return 128 if dtype == np.uint8 else 0
