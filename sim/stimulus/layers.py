"""Random quantized models, one layer or a short chain: the stimulus of golden, compiler and hardware tests alike.

`random_layer(rng)` gives an ONNX model and inputs for it. Scales follow the statistics of the layer, so that outputs
fill int8 and some of them saturate; scales are often powers of two, so that ties of rounding occur.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.sim.stimulus.model import Limits, RandomModel, Tensor

__all__ = ["KINDS", "random_layer"]

KINDS = ("qlinearconv", "qdq_conv", "conv1d", "qlinearmatmul", "qdq_matmul", "qgemm", "qdq_gemm", "chain")
"""Kinds of models that `random_layer` makes. "conv1d" and "chain" are of either form, QOperator or QDQ."""


def random_layer(
    rng: np.random.Generator, kind: str | None = None, limits: Limits | None = None
) -> tuple[bytes, dict[str, NDArray]]:
    """An ONNX model (serialized) of the given kind, or of any, and inputs by name."""
    kind = kind or str(rng.choice(KINDS))
    if kind not in KINDS:
        raise ValueError(f"Kind must be one of {', '.join(KINDS)}, not {kind!r}")
    qdq = kind.startswith("qdq") or (kind in ("chain", "conv1d") and rng.random() < 0.5)
    layers = _RandomLayers(rng, limits or Limits(), qdq)
    match kind:
        case "qlinearconv" | "qdq_conv":
            y = layers.conv(layers.image(2))
        case "conv1d":
            y = layers.conv(layers.image(1))
        case "qlinearmatmul" | "qdq_matmul":
            y = layers.matmul(layers.matrix())
        case "qgemm" | "qdq_gemm":
            y = layers.gemm(layers.matrix(rank=2))
        case _:
            y = layers.chain(int(rng.integers(2, layers.limits.layers + 1)))
    layers.output(y)
    return layers.writer.model(), layers.inputs


@dataclass(frozen=True, eq=False)
class _Weights:
    """Quantized weights: names of the values, scale and zero point, and what describes them; outputs along `axis`."""

    names: tuple[str, str, str]
    scale: NDArray[np.float32]
    rms: float
    axis: int


class _RandomLayers(RandomModel):
    """Draws the layers, all in one form."""

    def __init__(self, rng: np.random.Generator, limits: Limits, qdq: bool):
        super().__init__(rng, limits)
        self.qdq, self.absorbed = qdq, False

    def chain(self, count: int) -> Tensor:
        """Convolutions, then perhaps a flattening and dense layers; or dense layers alone. May branch."""
        self.absorbed = True
        x = y = self.matrix(rank=2) if self.chance(0.3) else self.image(2)
        for i in range(count):
            if len(x.shape) == 4 and i and self.chance(0.4):
                x = self.flatten(x)
            y = self.conv(x) if len(x.shape) == 4 else self.matmul(x) if self.chance(0.4) else self.gemm(x)
            if i + 1 < count and self.chance(0.15):
                self.output(y)
                continue  # The next layer reads x as well.
            x = y
        return y

    def conv(self, x: Tensor) -> Tensor:
        geometry, kernel, size = self.geometry(x.shape[2:])
        groups = self.groups(x.shape[1])
        taps = prod(kernel) * x.shape[1] // groups
        outputs = groups * self.outputs(self.limits.channels // groups, taps * groups * prod(size) * x.shape[0])
        weights = self.weights((outputs, x.shape[1] // groups, *kernel), 0)
        if self.chance(0.5):
            geometry["kernel_shape"] = kernel
        if groups > 1 or self.chance(0.2):
            geometry["group"] = groups
        return self.layer("Conv", x, weights, taps, (x.shape[0], outputs, *size), geometry)

    def groups(self, channels: int) -> int:
        """Mostly 1; otherwise one for each channel, or any number that divides the channels."""
        if not self.chance(0.3):
            return 1
        divisors = [n for n in range(1, channels + 1) if channels % n == 0]
        return channels if self.chance(0.5) else int(self.rng.choice(divisors))

    def geometry(self, sizes: tuple[int, ...]) -> tuple[dict[str, Any], list[int], list[int]]:
        """Attributes of a convolution that fits the input, its kernel and the size of its output."""
        while True:
            kernel = [self.between(1, self.limits.kernel) for _ in sizes]
            stride = [self.between(1, self.limits.stride) for _ in sizes]
            dilation = [self.between(1, 2) if self.chance(0.3) else 1 for _ in sizes]
            extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
            attributes: dict[str, Any] = {"strides": stride, "dilations": dilation}
            if self.chance(0.17):
                # ONNX Runtime has no dilation here.
                attributes |= {"auto_pad": str(self.rng.choice(["SAME_UPPER", "SAME_LOWER"])),
                               "dilations": [1] * len(sizes)}  # fmt: skip
                return attributes, kernel, [-(-n // s) for n, s in zip(sizes, stride, strict=True)]
            begin, end = ([self.between(0, e - 1) if self.chance(0.6) else 0 for e in extent] for _ in range(2))
            if self.chance(0.1):
                attributes["auto_pad"], begin, end = "VALID", [0] * len(sizes), [0] * len(sizes)
            else:
                attributes["pads"] = [*begin, *end]
            room = [n + b + e - x for n, b, e, x in zip(sizes, begin, end, extent, strict=True)]
            if min(room) >= 0:
                return attributes, kernel, [r // s + 1 for r, s in zip(room, stride, strict=True)]

    def matmul(self, x: Tensor) -> Tensor:
        features, outputs = x.shape[-1], self.outputs(self.limits.features, prod(x.shape))
        weights = self.weights((features, outputs), 1)
        return self.layer("MatMul", x, weights, features, (*x.shape[:-1], outputs), {})

    def gemm(self, x: Tensor) -> Tensor:
        features, outputs = x.shape[-1], self.outputs(self.limits.features, prod(x.shape))
        transposed = self.chance(0.5)
        weights = self.weights((outputs, features) if transposed else (features, outputs), 0 if transposed else 1)
        attributes = {"transB": int(transposed)} if transposed or self.chance(0.5) else {}
        return self.layer("Gemm", x, weights, features, (x.shape[0], outputs), attributes)

    def outputs(self, limit: int, work: int) -> int:
        """A number of outputs, each of which costs `work`."""
        return self.between(1, max(1, min(limit, self.limits.macs // work)))

    def flatten(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to a matrix, in one of the ways in which models do it."""
        batch, channels, height, width = x.shape
        shape, name = (batch, channels * height * width), x.name
        between = self.qdq and self.chance(0.5)
        if between:
            name = self.writer.node("DequantizeLinear", [name, *self.parameters(x)])
        if self.chance(0.2):
            name = self.writer.node("Transpose", [name], perm=[0, 2, 3, 1])
        if self.chance(0.5) and (between or self.writer.opset >= 11):  # Flatten-9 is for float32.
            name = self.writer.node("Flatten", [name])
        else:
            sizes = [batch, -1] if self.chance(0.5) else [0, -1] if self.chance(0.5) else list(shape)
            name = self.writer.node("Reshape", [name, self.constant(np.array(sizes, np.int64), "shape")])
        if between:
            name = self.writer.node("QuantizeLinear", [name, *self.parameters(x)])
        return replace(x, name=name, shape=shape)

    def weights(self, shape: tuple[int, ...], axis: int) -> _Weights:
        """int8, or uint8 around 128; one scale or, from opset 13 in the QDQ form, one for each output."""
        values = self.rng.integers(-128, 128, shape)
        if self.chance(0.5):
            values = np.clip(np.rint(self.rng.normal(0, 30, shape)), -127, 127).astype(int)
        if self.chance(0.1):
            values = self.rng.choice([-128, 127], shape)
        channels = self.chance(0.5) and (not self.qdq or self.writer.opset >= 13)
        scales = [self.scale(0.005) for _ in range(shape[axis])]
        scale = np.array(scales if channels else scales[0], np.float32)
        shifted = self.dtype == np.uint8 and self.chance(0.15)
        dtype, zero_point = (np.uint8, 128) if shifted else (np.int8, 0)
        names = (self.constant((values + zero_point).astype(dtype), "w"), self.constant(scale, "w_scale"),
                 self.constant(np.full(scale.shape, zero_point, dtype), "w_zero_point"))  # fmt: skip
        return _Weights(names, scale, float(np.sqrt(np.mean(values**2.0)) + 1), axis)

    def layer(
        self, op: str, x: Tensor, w: _Weights, taps: int, shape: tuple[int, ...], attributes: dict[str, Any]
    ) -> Tensor:
        """The layer in the model's form; `taps` products make one output."""
        spread = float(np.sqrt(taps) * x.rms * w.rms)
        target = self.rng.uniform(15, 110)
        y_scale = self.scale(float(np.mean(x.scale * w.scale)) * spread / target)
        y = Tensor("", shape, y_scale, self.between(self.low, self.high), min(target, 90.0))
        count = shape[1] if op == "Conv" else shape[-1]
        bias = np.clip(self.rng.normal(0, spread, count), -(2**28), 2**28).astype(np.int32)
        required = op == "Gemm" and self.qdq and self.writer.opset < 11
        form = self.qdq_layer if self.qdq else self.qlinear_layer
        return form(op, x, w, y, bias if required or self.chance(0.6) else None, attributes)

    def qlinear_layer(
        self, op: str, x: Tensor, w: _Weights, y: Tensor, bias: NDArray[np.int32] | None, attributes: dict[str, Any]
    ) -> Tensor:
        inputs, output = [x.name, *self.parameters(x), *w.names], self.parameters(y)
        extra = "" if bias is None or op == "MatMul" else self.constant(bias, "bias")
        match op:
            case "Conv":
                name = self.writer.node("QLinearConv", [*inputs, *output, *([extra] if extra else [])], **attributes)
            case "MatMul":
                name = self.writer.node("QLinearMatMul", [*inputs, *output])
            case _:
                name = self.writer.node("QGemm", [*inputs, extra, *output], domain="com.microsoft", **attributes)
        return replace(y, name=name)

    def qdq_layer(
        self, op: str, x: Tensor, w: _Weights, y: Tensor, bias: NDArray[np.int32] | None, attributes: dict[str, Any]
    ) -> Tensor:
        inputs = [self.writer.node("DequantizeLinear", [x.name, *self.parameters(x)]),
                  self.dequantize(w.names, w.scale, w.axis)]  # fmt: skip
        bias_name = "" if bias is None else self.qdq_bias(bias, x, w, op)
        name = self.writer.node(op, [*inputs, bias_name] if bias_name and op != "MatMul" else inputs, **attributes)
        if bias_name and op == "MatMul":
            name = self.writer.node("Add", [name, bias_name] if self.chance(0.8) else [bias_name, name])
        name, y = self.activation(name, y)
        return replace(y, name=self.writer.node("QuantizeLinear", [name, *self.parameters(y)]))

    def qdq_bias(self, bias: NDArray[np.int32], x: Tensor, w: _Weights, op: str) -> str:
        """int32 behind DequantizeLinear; or float32, where ONNX Runtime quantizes it (before opset 11 it fails to)."""
        scale = (x.scale * w.scale).astype(np.float32)
        quantizes = self.writer.opset >= 11 and (op != "MatMul" or len(x.shape) == 2)
        if quantizes and self.chance(0.2):
            return self.constant((bias * scale * self.rng.uniform(0.9, 1.1)).astype(np.float32), "bias")
        names = (self.constant(bias, "bias"), self.constant(scale, "bias_scale"),
                 self.constant(np.zeros(scale.shape, np.int32), "bias_zero_point"))  # fmt: skip
        return self.dequantize(names, scale, 0)

    def dequantize(self, names: tuple[str, str, str], scale: NDArray[np.float32], axis: int) -> str:
        if scale.ndim:
            return self.writer.node("DequantizeLinear", names, axis=axis)
        return self.writer.node("DequantizeLinear", names)

    def activation(self, name: str, y: Tensor) -> tuple[str, Tensor]:
        """Perhaps a Relu or Clip; mostly, and in chains always, one that ONNX Runtime absorbs.

        What it does not absorb it computes in float; then one step of difference may grow in the layers that follow.
        """
        kind = self.rng.choice(["none", "relu", "clip"], p=[0.5, 0.3, 0.2])
        if kind == "none":
            return name, y
        absorbed = self.absorbed or self.chance(0.8)
        y = replace(y, zero_point=self.low if absorbed else y.zero_point)
        if kind == "relu":
            return self.writer.node("Relu", [name]), y
        steps = self.rng.integers(256 if absorbed else 20, 400)
        bounds = [np.float32(0), np.float32(y.scale * steps)]
        if self.writer.opset < 11:
            return self.writer.node("Clip", [name], min=float(bounds[0]), max=float(bounds[1])), y
        return self.writer.node("Clip", [name, *(self.constant(bound, "bound") for bound in bounds)]), y
