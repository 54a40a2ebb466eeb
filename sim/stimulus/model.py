"""A model with random numbers, inputs and outputs, to which random layers are added."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.sim.stimulus.model_writer import ModelWriter

__all__ = ["OPSETS", "Limits", "RandomModel", "Tensor"]

OPSETS = (10, 11, 12, 13, 15, 17, 19, 21, 22, 23, 26)
"""Operator sets that models are made for; the newest is the newest that ONNX Runtime 1.31 runs."""


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


@dataclass(frozen=True)
class Tensor:
    """A quantized tensor of the model. `rms` estimates the root mean square of its values minus the zero point."""

    name: str
    shape: tuple[int, ...]
    scale: np.float32
    zero_point: int
    rms: float


class RandomModel:
    """Draws for one model, whose activations all have one type."""

    def __init__(self, rng: np.random.Generator, limits: Limits):
        self.rng, self.limits = rng, limits
        self.writer = ModelWriter(int(rng.choice(OPSETS)))
        self.dtype = np.dtype(str(rng.choice(["uint8", "int8"])))
        self.low, self.high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        self.powers = self.chance(0.3)
        self.constant_nodes = self.chance(0.1)
        self.inputs: dict[str, NDArray] = {}

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """Uniform, both ends included; the ends more often than the rest."""
        return int(self.rng.choice([low, high])) if self.chance(0.15) else int(self.rng.integers(low, high + 1))

    def scale(self, size: float) -> np.float32:
        """A scale of about that size."""
        return np.float32(2.0 ** np.round(np.log2(size)) if self.powers else size * self.rng.uniform(0.7, 1.4))

    def constant(self, values: Any, stem: str) -> str:
        return self.writer.constant(values, stem, self.constant_nodes)

    def parameters(self, tensor: Tensor) -> list[str]:
        """Names of scale and zero point of an activation."""
        zero_point = self.dtype.type(tensor.zero_point)
        return [self.constant(tensor.scale, "scale"), self.constant(zero_point, "zero_point")]

    def image(self, dims: int) -> Tensor:
        """[N, C, L] or [N, C, H, W]; sometimes a Transpose makes it from an input whose channels come last."""
        size = [self.between(1, self.limits.size) for _ in range(dims)]
        batch, channels = self.between(1, self.limits.batch), self.between(1, self.limits.channels)
        if not self.chance(0.15):
            return self.input((batch, channels, *size))
        x = self.input((batch, *size, channels))
        name = self.writer.node("Transpose", [x.name], perm=[0, dims + 1, *range(1, dims + 1)])
        return replace(x, name=name, shape=(batch, channels, *size))

    def matrix(self, rank: int | None = None) -> Tensor:
        rank = rank or self.between(2, 4)
        leading = [self.between(1, self.limits.rows if i == rank - 2 else 2) for i in range(rank - 1)]
        return self.input((*leading, self.between(1, self.limits.features)))

    def input(self, shape: tuple[int, ...]) -> Tensor:
        """A network input: quantized, or float32 with QuantizeLinear. A first dimension of 1 may be symbolic."""
        zero_point = self.between(self.low, self.high)
        if self.chance(0.3):
            zero_point = int(self.rng.choice([self.low, 0, (self.low + self.high + 1) // 2]))
        extreme = self.chance(0.1)
        choices = [self.low, self.high]
        values = self.rng.choice(choices, shape) if extreme else self.rng.integers(self.low, self.high + 1, shape)
        x = Tensor("x", shape, self.scale(0.02), zero_point, float(np.sqrt(np.mean((values - zero_point) ** 2.0)) + 1))
        ported = ("batch", *shape[1:]) if shape[0] == 1 and self.chance(0.2) else shape
        if self.chance(0.6):
            self.inputs["x"] = values.astype(self.dtype)
            self.writer.input("x", self.dtype, ported)
            return x
        self.inputs["x"] = ((values - zero_point + self.rng.uniform(-0.6, 0.6, shape)) * x.scale).astype(np.float32)
        self.writer.input("x", np.float32, ported)
        return replace(x, name=self.writer.node("QuantizeLinear", ["x", *self.parameters(x)]))

    def output(self, y: Tensor) -> None:
        """A network output: quantized, or float32 with DequantizeLinear. A symbolic batch goes through."""
        symbolic = any(dim.dim_param for port in self.writer.inputs for dim in port.type.tensor_type.shape.dim)
        shape = ("batch", *y.shape[1:]) if symbolic else y.shape
        if self.chance(0.4):
            name = self.writer.node("DequantizeLinear", [y.name, *self.parameters(y)])
            self.writer.output(name, np.float32, shape)
        else:
            self.writer.output(y.name, self.dtype, shape)
