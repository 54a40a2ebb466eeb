"""The graph between the ONNX front end and the tiler: int8 tensors in channel order, and the layers that connect them.

Everything here is in the int8 domain: a uint8 tensor of the model has its zero point, and its clamp limits, minus 128.
Layers and values are frozen; a pass makes a new graph. The front end makes `Conv`, `SfuOp`, `Concat` and `Select`; the
passes that know the configuration leave only `Conv` and `SfuOp`, which run, and values that lie inside others.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from systolith.numerics import average_scale

__all__ = [
    "Add",
    "Concat",
    "Conv",
    "Dims",
    "Graph",
    "Inside",
    "Layer",
    "Multiply",
    "Port",
    "Select",
    "SfuOp",
    "Value",
    "Window",
    "unused",
]  # fmt: skip

Dims = tuple[int, int, int, int]


@dataclass(frozen=True)
class Inside:
    """Where a value lies in another, `whole`: its element (n, c, y, x) is element (image + n, channel + c,
    top + y * step_y, left + x * step_x) of that one. Steps other than 1 are for values that a layer writes."""

    whole: str
    image: int = 0
    channel: int = 0
    top: int = 0
    left: int = 0
    step_y: int = 1
    step_x: int = 1


@dataclass(frozen=True)
class Value:
    """A tensor of int8: `dims` = (batch, channels, height, width).

    A matrix [M, K] is one image of M pixels, (1, K, 1, M), where it is a network input, and stays one from MatMul to
    MatMul; it is (M, K, 1, 1) where a Flatten made it from M images. A value `inside` another is either written by a
    layer, and a part of what makes the other one, or read only, and there when the other one is.
    """

    name: str
    dims: Dims
    scale: float
    zero_point: int
    inside: Inside | None = None


@dataclass(frozen=True)
class Window:
    """What slides over an input. `pads` (top, left, bottom, right); negative ones leave out rows or columns."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output height and width for an input of that size (ONNX, explicit pads, ceil_mode 0)."""
        top, left, bottom, right = self.pads
        return (
            (height + top + bottom - self.reach[0]) // self.stride[0] + 1,
            (width + left + right - self.reach[1]) // self.stride[1] + 1,
        )

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first tap to the last."""
        return self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1

    @property
    def lap(self) -> tuple[int, int]:
        """Rows and columns by which neighbours overlap."""
        return max(self.reach[0] - self.stride[0], 0), max(self.reach[1] - self.stride[1], 0)

    @property
    def is_plain(self) -> bool:
        """One value for each value, moved nowhere."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and not any(self.pads)


@dataclass(frozen=True)
class Add:
    """Adds value `operand` to a requantized result: `systolith.numerics.add`.

    The operand has the dims of the result, or 1 for height, width or both; `zeros` are of result and operand.
    """

    operand: str
    zeros: tuple[int, int]
    constants: tuple[int, int, int]
    zero_point: int
    low: int = -128
    high: int = 127


@dataclass(frozen=True)
class Multiply:
    """Makes v = (v - zeros[0]) * (operand - zeros[1]) of a value, before requantization, which rounds the sum with the
    zero point then (`joint` of `systolith.numerics.requantize`). Dims as in Add."""

    operand: str
    zeros: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution, or what is one to the array (MatMul, Gemm: kernel 1x1, or the whole height x width after Flatten).

    r = clamp(rint(float32(sum (x - x_zero_point) * weights + bias) * scale) + zero_point, low, high), where x outside
    the input is x_zero_point; then, each if it is there: the maximum over windows of r (`pool`), `add`, and the table.
    `weights` int8 [O, C / groups, kernel y, kernel x], where output o reads the channels of group o * groups // O;
    `bias` int32 [O]; `scale` float32 [O]; `pads` (top, left, bottom, right). `table` int8 [256] by unsigned byte. `op`
    is the ONNX operator, for reports; `macs_of` the multiply-accumulates of one image, where the weights hold zeros
    that the network does not have (None: all of them count).
    """

    name: str
    op: str
    input: str
    output: str
    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    zero_point: int = 0
    low: int = -128
    high: int = 127
    pool: Window | None = None
    add: Add | None = None
    table: NDArray[np.int8] | None = None
    macs_of: int | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Values it reads."""
        return (self.input, self.add.operand) if self.add else (self.input,)

    @property
    def window(self) -> Window:
        """Kernel, stride, dilation and pads."""
        kernel_y, kernel_x = self.weights.shape[2:]
        return Window((kernel_y, kernel_x), self.stride, self.dilation, self.pads)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output height and width, before `pool`, for an input of that size."""
        return self.window.output_size(height, width)

    def macs(self, graph: "Graph") -> int:
        """Multiply-accumulates of the layer, padding included, as networks are usually counted."""
        batch, _, height, width = graph.values[self.input].dims
        rows, cols = self.output_size(height, width)
        each = rows * cols * self.weights.size if self.macs_of is None else self.macs_of
        return batch * each


@dataclass(frozen=True, eq=False)
class SfuOp:
    """What the SFU does by itself: reduce windows, multiply, requantize, add, look up.

    v = maximum or sum of the input over the window, where x outside the input is `pad`; then `multiply`;
    r = clamp(rint(float32(v + bias) * factor) + zero_point, low, high); then `add`; then the table (int8 [256]).
    With reduce "average" a sum of n positions that lie inside has bias = -x_zero * n and factor
    x_scale / (y_scale * d), d = n, or with `counted` the positions of the window inside the input extended by those
    pads (count_include_pad); `pad` is 0 then. Else bias is 0 and factor x_scale / y_scale.
    """

    name: str
    op: str
    input: str
    output: str
    window: Window = Window()
    reduce: str = "max"
    pad: int = -128
    counted: tuple[int, int, int, int] | None = None
    x_zero: int = 0
    x_scale: float = 1.0
    y_scale: float = 1.0
    multiply: Multiply | None = None
    zero_point: int = 0
    low: int = -128
    high: int = 127
    add: Add | None = None
    table: NDArray[np.int8] | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Values it reads."""
        operand = self.multiply or self.add
        return (self.input, operand.operand) if operand else (self.input,)

    def factor(self, count: int = 1) -> np.float32:
        """Scale of requantization for a divisor."""
        return average_scale(self.x_scale, self.y_scale, count)

    def macs(self, graph: "Graph") -> int:
        """None: only what the array or the depthwise unit multiplies counts."""
        return 0


@dataclass(frozen=True)
class Concat:
    """Inputs one after the other along `axis` of (batch, channels, height, width); all have the output's scale."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    axis: int

    def macs(self, graph: "Graph") -> int:
        """None."""
        return 0


@dataclass(frozen=True)
class Select:
    """Output channel c is input channel `channels[c]`: Split, Slice and Gather of channels, and channel shuffle."""

    name: str
    op: str
    input: str
    output: str
    channels: tuple[int, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The value it reads."""
        return (self.input,)

    def macs(self, graph: "Graph") -> int:
        """None."""
        return 0


Layer = Conv | SfuOp | Concat | Select


@dataclass(frozen=True)
class Port:
    """A network input or output as the user sees it, and the value behind it.

    `shape` and `dtype` ("int8", "uint8", "float32") are the model's. The array, quantized with the value's scale and
    zero point to `quantized` ("int8" or "uint8"), transposed by `order` and reshaped, has the dims of `value`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    value: str
    order: tuple[int, ...]
    quantized: str


@dataclass(frozen=True)
class Graph:
    """Layers in an order in which they can run. `values` by name."""

    name: str
    values: Mapping[str, Value]
    layers: tuple[Layer, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    notes: tuple[str, ...] = field(default=())


def unused(name: str, *taken: Container[str]) -> str:
    """A name for what a pass makes of the value before the last dot: `name`, with primes if it is taken."""
    while any(name in names for names in taken):
        name += "'"
    return name
