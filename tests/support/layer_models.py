"""One layer between DequantizeLinear and QuantizeLinear, with weights and a bias as quantizers seldom write them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.sim.stimulus.model_writer import ModelWriter

__all__ = ["BIASES", "DEAD_SCALES", "OPERATORS", "LayerModel"]

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BIASES = ("int32", "own scale", "own scales", "zero point", "zeros", "int8", "uint8", "int16", "uint16", "float")
DEAD_SCALES = (0.0, 1e-40, 1e-38, 1e-30, 7.8e-10, 40.0)
SHAPES = {"Conv": (1, 3, 5, 4), "ConvTranspose": (1, 3, 3, 4), "Gemm": (4, 3), "MatMul": (2, 3, 3)}
KERNELS = {"Conv": (5, 3, 2, 2), "ConvTranspose": (3, 5, 2, 2), "Gemm": (3, 5), "MatMul": (3, 5)}
OUTPUTS = 5
X_SCALE, W_SCALE = np.float32(0.05), np.float32(0.01)
INT8 = np.dtype(np.int8)


@dataclass(eq=False)
class LayerModel:
    """The layer `op`, 5 outputs wide, with weights of int8 that `weights` and `scale` may replace.

    `bias` is one of BIASES, or float32 values; about `spread` large. `attributes` are the operator's. `limits` are
    operators behind it, each with its constants; None stands for the layer's result.
    """

    rng: np.random.Generator
    op: str
    bias: str | NDArray[np.float32] | None = None
    scale: NDArray[np.float32] = field(default_factory=lambda: np.asarray(W_SCALE))
    weights: NDArray[np.int8] | None = None
    spread: float = 3.0
    dtype: np.dtype = INT8
    attributes: dict[str, Any] = field(default_factory=dict)
    limits: list[tuple[str, list[np.ndarray | None]]] = field(default_factory=list)

    @property
    def axis(self) -> int:
        """Of the weights, that of the outputs."""
        return 0 if self.op == "Conv" else 1

    def random_weights(self) -> NDArray[np.int8]:
        return self.rng.integers(-128, 128, KERNELS[self.op]).astype(np.int8)

    def without(self, *channels: int) -> NDArray[np.int8]:
        """Random weights, of 0 for these outputs."""
        weights = self.random_weights()
        weights[(slice(None),) * self.axis + (list(channels),)] = 0
        return weights

    def model(self, y_scale: float = 0.1) -> bytes:
        """The model, of opset 21, which has 16 bits."""
        writer, shape = ModelWriter(21), SHAPES[self.op]
        x = writer.dequantize(writer.input("x", self.dtype, shape), X_SCALE, self.dtype.type(7))
        weights = self.random_weights() if self.weights is None else self.weights
        operands = [x, _dequantized(writer, weights, self.scale, np.int8(0), self.axis)]
        bias = [] if self.bias is None else [self._bias(writer)]
        if self.op == "MatMul":
            y = writer.node(self.op, operands, "layer")
            y = writer.node("Add", [y, *bias]) if bias else y
        else:
            y = writer.node(self.op, [*operands, *bias], "layer", **self.attributes)
        for op, constants in self.limits:
            y = writer.node(op, [y if c is None else writer.constant(c) for c in constants])
        q = writer.quantize(y, y_scale, self.dtype.type(3))
        writer.output(q, self.dtype, [f"size{i}" for i in range(len(shape))])
        return writer.model()

    def _bias(self, writer: ModelWriter) -> str:
        if isinstance(self.bias, np.ndarray):
            return writer.constant(self.bias)
        real = self.rng.normal(0, self.spread, OUTPUTS)
        unit = np.asarray(X_SCALE * self.scale, np.float32)
        own, many = np.float32(0.002), np.linspace(1e-4, 0.01, OUTPUTS).astype(np.float32)
        match self.bias:
            case "int32":
                whole = np.rint(np.clip(real / np.maximum(unit, 1e-9), -(2**24), 2**24))
                return _dequantized(writer, whole.astype(np.int32), unit, np.int32(0), 0)
            case "own scale":
                return _dequantized(writer, np.rint(real / own).astype(np.int32), own, np.int32(0), 0)
            case "own scales":
                return _dequantized(writer, np.rint(real / many).astype(np.int32), many, np.int32(0), 0)
            case "zero point":
                return _dequantized(writer, np.rint(real / own).astype(np.int32), own, np.int32(7), 0)
            case "zeros":
                return _dequantized(writer, np.zeros(OUTPUTS, np.int32), np.float32(1), np.int32(0), 0)
            case "int8":
                return _dequantized(writer, np.array([-128, 127, 5, -3, 0], np.int8), np.float32(0.03), np.int8(-4), 0)
            case "uint8":
                return _dequantized(writer, np.array([0, 255, 5, 130, 128], np.uint8), own * 9, np.uint8(128), 0)
            case "int16":
                return _dequantized(writer, np.rint(real / own).astype(np.int16), own, np.int16(-9), 0)
            case "uint16":
                whole = np.rint(real / own) + 2**15
                return _dequantized(writer, whole.astype(np.uint16), own, np.uint16(2**15), 0)
        assert self.bias == "float"
        return writer.constant(real.astype(np.float32))


def _dequantized(writer: ModelWriter, values: NDArray, scale: NDArray | np.generic, zero: np.generic, axis: int) -> str:
    many = {"axis": axis} if np.ndim(scale) else {}
    return writer.dequantize(writer.constant(values), scale, np.full(np.shape(scale), zero), **many)
