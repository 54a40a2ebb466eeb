"""What the front end knows of an ONNX tensor as it walks: constant, quantized, dequantized, or a layer's sum."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir import Conv, Value
from systolith.compiler.onnx_node import Node
from systolith.compiler.onnx_views import Atom, View

__all__ = [
    "Array",
    "Constant",
    "DequantizedConstant",
    "FloatInput",
    "Quantized",
    "Real",
    "Roles",
    "Sum",
    "Tensor",
    "describe",
    "image_roles",
    "viewed",
]

Roles = tuple[Atom, Atom, Atom, Atom]


@dataclass
class Array:
    """The int8 array behind quantized tensors: a network input, or what a layer makes. It becomes an `ir.Value`.

    `roles` are batch, channels, height and width as atoms of the row-major array of `shape`; `dtype` is the 8-bit type
    it has in the model. A network input gets roles, type, scale and zero point from the first node that needs them, and
    every other one must agree.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None = None
    scale: np.float32 | None = None
    zero_point: int | None = None
    roles: Roles | None = None

    def agree(self, node: Node, scale: np.float32, zero_point: int) -> None:
        """Take scale and zero point (int8 domain), or raise SystolithError if others were taken before."""
        if self.scale is None:
            self.scale, self.zero_point = scale, zero_point
        if (self.scale, self.zero_point) != (scale, zero_point):
            raise node.error(
                f"input must have the scale {self.scale} and (as int8) zero point {self.zero_point} that "
                f"'{self.name}' was made with, not {scale} and {zero_point}"
            )

    def bind(self, node: Node, roles: Roles) -> None:
        """Take the roles of the axes, or raise SystolithError if others were taken before."""
        if self.roles is None:
            self.roles = roles
        if [_normal(role) for role in self.roles] != [_normal(role) for role in roles]:
            raise node.error(
                f"input must have batch, channels, height and width as '{self.name}' has them; a Reshape or Transpose "
                "between layers that moves data is not supported"
            )

    def value(self) -> Value:
        """The IR's value; scale, zero point and roles must be known."""
        assert self.roles is not None and self.scale is not None and self.zero_point is not None
        batch, channels, height, width = (role.size for role in self.roles)
        return Value(self.name, (batch, channels, height, width), float(self.scale), self.zero_point)


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


@dataclass(frozen=True, eq=False)
class Sum:
    """The real result of a layer, before its QuantizeLinear.

    `layer` lacks `output`, `scale` and its clamp. 1 in the accumulator is x_scale * w_scale (one, or one for each
    channel). `dims` are the output's, and `view` shows them as ONNX has them; `low` and `high` are limits set by Relu
    or Clip.
    """

    node: Node
    layer: Conv
    x_scale: np.float32
    w_scale: NDArray[np.float32]
    dims: tuple[int, int, int, int]
    view: View
    has_bias: bool = False
    low: np.float32 | None = None
    high: np.float32 | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    @property
    def unit(self) -> NDArray[np.float32]:
        """The real value of 1 in the accumulator."""
        with np.errstate(over="ignore", under="ignore"):
            return np.float32(self.x_scale) * self.w_scale


Tensor = Constant | DequantizedConstant | FloatInput | Quantized | Real | Sum
Viewed = FloatInput | Quantized | Real | Sum


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
        case FloatInput():
            return f"network input '{tensor.array.name}' of float32"
        case Quantized():
            return f"a tensor of {tensor.dtype}"
        case Real():
            return "a dequantized tensor"
        case Sum():
            return f"the float32 result of {tensor.node.op} '{tensor.node.name}' without a QuantizeLinear"


def image_roles(dims: tuple[int, int, int, int]) -> Roles:
    """Batch, channels, height and width as atoms of a row-major array of those dims."""
    _, c, h, w = dims
    return Atom(dims[0], c * h * w), Atom(c, h * w), Atom(h, w), Atom(w, 1)
