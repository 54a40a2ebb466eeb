"""Random quantized models, one layer or a short chain: the stimulus of golden, compiler and hardware tests alike.

`random_layer(rng)` gives an ONNX model and inputs for it. Scales follow the statistics of the layer, so that outputs
fill int8 and some of them saturate; scales are often powers of two, so that ties of rounding occur.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["KINDS", "Limits", "random_layer"]

KINDS = ("qlinearconv", "qdq_conv", "conv1d", "qlinearmatmul", "qdq_matmul", "qgemm", "qdq_gemm", "chain")
"""Kinds of layers that `random_layer` makes; "conv1d" is of either form."""

OPSETS = (10, 11, 12, 13, 15, 17, 19, 21, 22, 23)
TYPES = {
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.float32): TensorProto.FLOAT,
}


@dataclass(frozen=True)
class Limits:
    """Largest sizes of a layer. `macs` bounds multiply-accumulates of each layer of the model."""

    channels: int = 40
    size: int = 14
    kernel: int = 5
    stride: int = 3
    batch: int = 2
    rows: int = 24
    features: int = 80
    layers: int = 4
    macs: int = 300_000


def random_layer(
    rng: np.random.Generator, kind: str | None = None, limits: Limits | None = None
) -> tuple[bytes, dict[str, NDArray]]:
    """An ONNX model (serialized) of the given kind, or of any, and inputs by name."""
    kind = kind or str(rng.choice(KINDS))
    limits = limits or Limits()
    qdq = kind.startswith("qdq") or (kind in ("chain", "conv1d") and rng.random() < 0.5)
    builder = _Builder(rng, limits, qdq)
    if kind in ("qlinearconv", "qdq_conv"):
        tensor = builder.conv(builder.image(2))
    elif kind == "conv1d":
        tensor = builder.conv(builder.image(1))
    elif kind in ("qlinearmatmul", "qdq_matmul"):
        tensor = builder.matmul(builder.matrix())
    elif kind in ("qgemm", "qdq_gemm"):
        tensor = builder.gemm(builder.matrix(rank=2))
    elif kind == "chain":
        tensor = builder.chain(int(rng.integers(2, limits.layers + 1)))
    else:
        raise ValueError(f"Kind must be one of {', '.join(KINDS)}, not {kind!r}")
    return builder.finish(tensor), builder.inputs


@dataclass(frozen=True)
class _Tensor:
    """A quantized tensor of the model. `rms` estimates the root mean square of its values minus the zero point."""

    name: str
    shape: tuple[int, ...]
    scale: np.float32
    zero_point: int
    rms: float


@dataclass(frozen=True)
class _Weights:
    """Quantized weights [outputs, ...] as names of initializers: values, scale, zero point; and what describes them."""

    names: tuple[str, str, str]
    scale: NDArray[np.float32]
    rms: float
    axis: int


class _Builder:
    """Collects nodes and initializers of one model whose activations all have one type."""

    def __init__(self, rng: np.random.Generator, limits: Limits, qdq: bool):
        self.rng, self.limits, self.qdq = rng, limits, qdq
        self.opset = int(rng.choice(OPSETS))
        self.dtype = np.dtype(rng.choice([np.uint8, np.int8]))
        self.low, self.high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        self.powers = rng.random() < 0.3
        self.nodes, self.initializers, self.ports = [], [], []
        self.inputs: dict[str, NDArray] = {}

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """Uniform, both ends included; small values and the largest are the likely corners."""
        return int(self.rng.choice([low, high])) if self.chance(0.15) else int(self.rng.integers(low, high + 1))

    def scale(self, size: float) -> np.float32:
        """A scale of about that size."""
        return np.float32(2.0 ** np.round(np.log2(size)) if self.powers else size * self.rng.uniform(0.7, 1.4))

    def constant(self, array: NDArray, stem: str) -> str:
        name = f"{stem}_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, domain=domain, **attributes))
        return f"{name}_out"

    def parameters(self, scale: np.float32 | NDArray, zero_point: int | NDArray) -> list[str]:
        """Initializers of scale and zero point of an activation."""
        return [self.constant(np.float32(scale), "scale"), self.constant(self.dtype.type(zero_point), "zero_point")]

    # Network inputs

    def image(self, dims: int) -> _Tensor:
        size = [self.between(1, self.limits.size) for _ in range(dims)]
        return self.input((self.between(1, self.limits.batch), self.between(1, self.limits.channels), *size))

    def matrix(self, rank: int | None = None) -> _Tensor:
        rank = rank or self.between(2, 4)
        leading = [self.between(1, self.limits.rows if i == rank - 2 else 2) for i in range(rank - 1)]
        return self.input((*leading, self.between(1, self.limits.features)))

    def input(self, shape: tuple[int, ...]) -> _Tensor:
        """A network input: quantized, or float32 with QuantizeLinear."""
        zero_point = self.between(self.low, self.high)
        if self.chance(0.3):
            zero_point = int(self.rng.choice([self.low, 0, (self.low + self.high + 1) // 2]))
        scale = self.scale(0.02)
        values = self.rng.integers(self.low, self.high + 1, shape)
        if self.chance(0.1):
            values = self.rng.choice([self.low, self.high], shape)
        tensor = _Tensor("x", shape, scale, zero_point, float(np.sqrt(np.mean((values - zero_point) ** 2.0)) + 1))
        if self.chance(0.6):
            self.inputs["x"] = values.astype(self.dtype)
        else:
            self.inputs["x"] = ((values - zero_point + self.rng.uniform(-0.6, 0.6, shape)) * scale).astype(np.float32)
            quantized = self.node("QuantizeLinear", ["x", *self.parameters(scale, zero_point)])
            tensor = _Tensor(quantized, shape, scale, zero_point, tensor.rms)
        dtype = TYPES[self.inputs["x"].dtype]
        self.ports.append(helper.make_tensor_value_info("x", dtype, shape))
        return tensor

    # Layers

    def conv(self, x: _Tensor) -> _Tensor:
        dims = len(x.shape) - 2
        geometry, kernel, size = self.geometry(x.shape[2:])
        taps = int(np.prod(kernel)) * x.shape[1]
        work = taps * int(np.prod(size)) * x.shape[0]
        outputs = self.between(1, max(1, min(self.limits.channels, self.limits.macs // work)))
        weights = self.weights((outputs, x.shape[1], *kernel), 0)
        if self.chance(0.5):
            geometry["kernel_shape"] = kernel
        if dims == 2 and self.chance(0.2):
            geometry["group"] = 1
        shape = (x.shape[0], outputs, *size)
        return self.layer("Conv", x, weights, taps, shape, **geometry)

    def geometry(self, sizes: tuple[int, ...]) -> tuple[dict, list[int], list[int]]:
        """Attributes of a convolution that fits the input, its kernel and the size of its output."""
        while True:
            kernel = [self.between(1, self.limits.kernel) for _ in sizes]
            stride = [self.between(1, self.limits.stride) for _ in sizes]
            dilation = [self.between(1, 2) if self.chance(0.3) else 1 for _ in sizes]
            extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
            auto = str(self.rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])) if self.chance(0.25) else "NOTSET"
            attributes = {"strides": stride, "dilations": dilation}
            begin, end = ([self.between(0, e - 1) if self.chance(0.6) else 0 for e in extent] for _ in range(2))
            if auto.startswith("SAME"):
                attributes["dilations"] = [1] * len(sizes)
                size = [-(-n // s) for n, s in zip(sizes, stride, strict=True)]
            else:
                if auto == "VALID":
                    begin = end = [0] * len(sizes)
                size = [
                    (n + b + e - x) // s + 1 for n, b, e, x, s in zip(sizes, begin, end, extent, stride, strict=True)
                ]
            if auto == "NOTSET":
                attributes["pads"] = [*begin, *end]
            else:
                attributes["auto_pad"] = auto
            if min(size) >= 1 and min(n + b + e - x for n, b, e, x in zip(sizes, begin, end, extent, strict=True)) >= 0:
                return attributes, kernel, size

    def matmul(self, x: _Tensor) -> _Tensor:
        features = x.shape[-1]
        outputs = self.features(int(np.prod(x.shape)))
        weights = self.weights((features, outputs), 1)
        return self.layer("MatMul", x, weights, features, (*x.shape[:-1], outputs))

    def gemm(self, x: _Tensor) -> _Tensor:
        features, outputs = x.shape[-1], self.features(int(np.prod(x.shape)))
        transposed = self.chance(0.5)
        weights = self.weights((outputs, features) if transposed else (features, outputs), 0 if transposed else 1)
        attributes = {"transB": int(transposed)} if transposed or self.chance(0.5) else {}
        return self.layer("Gemm", x, weights, features, (x.shape[0], outputs), **attributes)

    def features(self, work: int) -> int:
        return self.between(1, max(1, min(self.limits.features, self.limits.macs // work)))

    def chain(self, count: int) -> _Tensor:
        """Convolutions, then perhaps a flattening and dense layers; or dense layers alone."""
        if self.chance(0.3):
            x = self.matrix(rank=2)
            for _ in range(count):
                x = self.matmul(x) if self.chance(0.5) else self.gemm(x)
            return x
        x = self.image(2)
        for i in range(count):
            if len(x.shape) == 4 and i and self.chance(0.4):
                x = self.flatten(x)
            x = self.conv(x) if len(x.shape) == 4 else self.gemm(x)
        return x

    def flatten(self, x: _Tensor) -> _Tensor:
        shape = (x.shape[0], int(np.prod(x.shape[1:])))
        if self.chance(0.5) and self.opset >= 11:
            name = self.node("Flatten", [x.name])
        else:
            name = self.node("Reshape", [x.name, self.constant(np.array([x.shape[0], -1], np.int64), "shape")])
        return _Tensor(name, shape, x.scale, x.zero_point, x.rms)

    def weights(self, shape: tuple[int, ...], axis: int) -> _Weights:
        """int8, or uint8 around 128; one scale or, from opset 13 in the QDQ form, one for each output."""
        values = self.rng.integers(-128, 128, shape)
        if self.chance(0.5):
            values = np.clip(np.rint(self.rng.normal(0, 30, shape)), -127, 127).astype(int)
        if self.chance(0.1):
            values = self.rng.choice([-128, 127], shape)
        rms = float(np.sqrt(np.mean(values**2.0)) + 1)
        count = shape[axis]
        channels = self.chance(0.5) and (not self.qdq or self.opset >= 13)
        scale = np.array([self.scale(0.005) for _ in range(count)] if channels else self.scale(0.005), np.float32)
        shifted = self.dtype == np.uint8 and self.chance(0.15)
        dtype, zero_point = (np.uint8, 128) if shifted else (np.int8, 0)
        names = (
            self.constant((values + zero_point).astype(dtype), "w"),
            self.constant(scale, "w_scale"),
            self.constant(np.full(scale.shape, zero_point, dtype), "w_zero_point"),
        )
        return _Weights(names, scale, rms, axis)

    def layer(self, op: str, x: _Tensor, w: _Weights, taps: int, shape: tuple[int, ...], **attributes) -> _Tensor:
        """The layer in the model's form; `taps` products make one output."""
        spread = np.sqrt(taps) * x.rms * w.rms
        target = self.rng.uniform(15, 110)
        y_scale = self.scale(float(np.mean(x.scale * w.scale)) * spread / target)
        y = _Tensor("", shape, y_scale, self.between(self.low, self.high), min(target, 90.0))
        count = shape[1] if op == "Conv" else shape[-1]
        bias = np.clip(self.rng.normal(0, spread, count), -(2**28), 2**28).astype(np.int32)
        with_bias = self.chance(0.6) or (self.opset < 11 and op == "Gemm" and self.qdq)  # Gemm-9 has no choice
        form = self.qdq_layer if self.qdq else self.qlinear_layer
        name, y = form(op, x, w, y, bias if with_bias else None, attributes)
        return _Tensor(name, shape, y.scale, y.zero_point, y.rms)

    def qlinear_layer(
        self, op: str, x: _Tensor, w: _Weights, y: _Tensor, bias: NDArray | None, attributes: dict
    ) -> tuple[str, _Tensor]:
        inputs = [x.name, *self.parameters(x.scale, x.zero_point), *w.names]
        output = self.parameters(y.scale, y.zero_point)
        if op == "Conv":
            extra = [] if bias is None else [self.constant(bias, "bias")]
            return self.node("QLinearConv", [*inputs, *output, *extra], **attributes), y
        if op == "MatMul":
            return self.node("QLinearMatMul", [*inputs, *output]), y
        extra = "" if bias is None else self.constant(bias, "bias")
        return self.node("QGemm", [*inputs, extra, *output], domain="com.microsoft", **attributes), y

    def qdq_layer(
        self, op: str, x: _Tensor, w: _Weights, y: _Tensor, bias: NDArray | None, attributes: dict
    ) -> tuple[str, _Tensor]:
        inputs = [
            self.node("DequantizeLinear", [x.name, *self.parameters(x.scale, x.zero_point)]),
            self.dequantize(w.names, w.scale, w.axis),
        ]
        if bias is not None:
            scale = (x.scale * w.scale).astype(np.float32)
            bias_names = (
                self.constant(bias, "bias"),
                self.constant(scale, "bias_scale"),
                self.constant(np.zeros(scale.shape, np.int32), "bias_zero_point"),
            )
            bias_name = self.dequantize(bias_names, scale, 0)
            if op != "MatMul":
                inputs.append(bias_name)
        name = self.node(op, inputs, **attributes)
        if bias is not None and op == "MatMul":
            name = self.node("Add", [name, bias_name] if self.chance(0.8) else [bias_name, name])
        name, y = self.activation(name, y)
        return self.node("QuantizeLinear", [name, *self.parameters(y.scale, y.zero_point)]), y

    def dequantize(self, names: tuple[str, str, str], scale: NDArray, axis: int) -> str:
        return self.node("DequantizeLinear", [*names], **({"axis": axis} if scale.ndim else {}))

    def activation(self, name: str, y: _Tensor) -> tuple[str, _Tensor]:
        """Perhaps a Relu or Clip; mostly with the zero point that lets ONNX Runtime absorb it."""
        kind = self.rng.choice(["none", "relu", "clip"], p=[0.5, 0.3, 0.2])
        if kind == "none":
            return name, y
        zero_point = self.low if self.chance(0.8) else y.zero_point
        y = _Tensor(y.name, y.shape, y.scale, zero_point, y.rms)
        if kind == "relu":
            return self.node("Relu", [name]), y
        bounds = [np.float32(0), np.float32(y.scale * self.rng.integers(120, 400) * np.float32(1.001))]
        if self.opset < 11:
            return self.node("Clip", [name], min=float(bounds[0]), max=float(bounds[1])), y
        return self.node("Clip", [name, *(self.constant(b, "bound") for b in bounds)]), y

    # Network outputs

    def finish(self, y: _Tensor) -> bytes:
        """The model with `y` as its output: quantized, or float32 with DequantizeLinear."""
        dtype, name = TYPES[self.dtype], y.name
        if self.chance(0.4):
            dtype = TensorProto.FLOAT
            name = self.node("DequantizeLinear", [y.name, *self.parameters(y.scale, y.zero_point)])
        output = helper.make_tensor_value_info(name, dtype, y.shape)
        graph = helper.make_graph(self.nodes, "layer", self.ports, [output], self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        version = max(7, helper.find_min_ir_version_for(opsets[:1]))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=version, producer_name="systolith")
        onnx.checker.check_model(model)
        return model.SerializeToString()
