"""The four topologies of the MLPerf Tiny benchmark, as frameworks export them: float32, with batch normalization.

Residual network for CIFAR-10, depthwise separable network for keyword spotting, MobileNetV1 (width 0.25) for visual
wake words, and the autoencoder for anomaly detection. Weights, statistics and samples are our own.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, load_from_string

from systolith.benchmarks.networks.weights import OPSET, fill
from systolith.sim.stimulus.model_writer import ModelWriter

__all__ = ["NETWORKS", "calibration", "float_model"]

SEED = 21
SAMPLES = 16


class _Builder(ModelWriter):
    """Layers by name; each method takes and gives a tensor."""

    def __init__(self):
        super().__init__(OPSET)

    def conv(self, x: str, inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), stride: int = 1,
             pads: tuple[int, int, int, int] = (1, 1, 1, 1), groups: int = 1, bias: bool = False) -> str:  # fmt: skip
        weights = self.constant(np.zeros((outputs, inputs // groups, *kernel), np.float32), "weights")
        more = [self.constant(np.zeros(outputs, np.float32), "bias")] if bias else []
        return self.node(
            "Conv", [x, weights, *more], kernel_shape=kernel, strides=[stride] * 2, pads=pads, group=groups
        )

    def norm(self, x: str, channels: int) -> str:
        names = ("scale", "shift", "mean", "variance")
        return self.node("BatchNormalization", [x, *(self.constant(np.ones(channels, np.float32), n) for n in names)],
                         epsilon=1e-3)  # fmt: skip

    def relu(self, x: str) -> str:
        return self.node("Relu", [x])

    def unit(self, x: str, inputs: int, outputs: int, **how) -> str:
        """Convolution, batch normalization, Relu."""
        return self.relu(self.norm(self.conv(x, inputs, outputs, **how), outputs))

    def separable(self, x: str, inputs: int, outputs: int, stride: int = 1) -> str:
        """A depthwise unit and a pointwise one."""
        x = self.unit(x, inputs, inputs, stride=stride, pads=_same(stride), groups=inputs)
        return self.unit(x, inputs, outputs, kernel=(1, 1), pads=(0, 0, 0, 0))

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        weights = self.constant(np.zeros((inputs, outputs), np.float32), "weights")
        return self.node("Gemm", [x, weights, self.constant(np.zeros(outputs, np.float32), "bias")])

    def classes(self, x: str, pool: tuple[int, int], channels: int, count: int) -> str:
        """Average of the whole image, a dense layer, Softmax."""
        x = self.node("Flatten", [self.node("AveragePool", [x], kernel_shape=pool, strides=pool)])
        return self.node("Softmax", [self.dense(x, channels, count)], axis=1)


def _same(stride: int) -> tuple[int, int, int, int]:
    """Pads of a 3x3 convolution over an even size, as TensorFlow's "same"."""
    return (1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1)


def _resnet8(b: _Builder) -> None:
    x = b.unit(b.input("image", np.float32, ["batch", 3, 32, 32]), 3, 16, bias=True)
    channels = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        y = b.unit(x, channels, outputs, stride=stride, pads=_same(stride), bias=True)
        y = b.norm(b.conv(y, outputs, outputs, bias=True), outputs)
        if stride > 1:
            x = b.conv(x, channels, outputs, kernel=(1, 1), stride=stride, pads=(0, 0, 0, 0), bias=True)
        x = b.relu(b.node("Add", [x, y]))
        channels = outputs
    b.output(b.classes(x, (8, 8), 64, 10), np.float32, ["batch", 10])


def _ds_cnn(b: _Builder) -> None:
    x = b.input("spectrogram", np.float32, ["batch", 1, 49, 10])
    x = b.unit(x, 1, 64, kernel=(10, 4), stride=2, pads=(4, 1, 5, 1), bias=True)
    for _ in range(4):
        x = b.separable(x, 64, 64)
    b.output(b.classes(x, (25, 5), 64, 12), np.float32, ["batch", 12])


def _mobilenet(b: _Builder) -> None:
    x = b.unit(b.input("image", np.float32, ["batch", 3, 96, 96]), 3, 8, stride=2, pads=_same(2))
    channels = 8
    for outputs, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)):
        x = b.separable(x, channels, outputs, stride)
        channels = outputs
    b.output(b.classes(x, (3, 3), 256, 2), np.float32, ["batch", 2])


def _autoencoder(b: _Builder) -> None:
    x = b.input("spectrogram", np.float32, ["batch", 640])
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    for inputs, outputs in pairwise(sizes):
        x = b.relu(b.norm(b.dense(x, inputs, outputs), outputs))
    b.output(b.dense(x, 128, 640), np.float32, ["batch", 640])


NETWORKS: dict[str, Callable[[_Builder], None]] = {
    "resnet8": _resnet8,
    "ds_cnn": _ds_cnn,
    "mobilenet": _mobilenet,
    "autoencoder": _autoencoder,
}


def float_model(name: str) -> ModelProto:
    """The float32 network `name`, with weights; its batch is open. The same bits each time."""
    builder = _Builder()
    NETWORKS[name](builder)
    model = load_from_string(builder.model(name))
    return fill(model, calibration(model), SEED)


def calibration(model: ModelProto) -> dict[str, NDArray[np.float32]]:
    """Samples for quantization: noise, finer and coarser, as real inputs have details of several sizes."""
    port = model.graph.input[0]
    shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim][1:]
    rng = np.random.default_rng(SEED)
    samples = rng.normal(size=(SAMPLES, *shape))
    for axis in range(max(len(shape) - 1, 1), len(shape) + 1):
        samples = samples + np.roll(samples, 1, axis) + np.roll(samples, 2, axis)
    return {port.name: (samples / samples.std()).astype(np.float32)}
