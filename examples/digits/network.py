"""Small convolutional networks in plain NumPy: forward, gradients, Adam. Just enough to train the digits examples."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Adam",
    "Average",
    "Convolution",
    "Depthwise",
    "Layer",
    "Linear",
    "MaxPool",
    "Network",
    "Residual",
    "plain",
    "residual",
]

Array = NDArray[np.float32]


def _windows(x: Array, kernel: int, stride: int) -> Array:
    """Windows of an image batch, padded to keep its size at stride 1: [batch, channels, y, x, kernel, kernel]."""
    pad = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]


def _scatter(dwindows: Array, shape: tuple[int, ...], stride: int) -> Array:
    """The gradient of the image behind `_windows`."""
    kernel = dwindows.shape[-1]
    pad = kernel // 2
    batch, channels, height, width = shape
    dx = np.zeros((batch, channels, height + 2 * pad, width + 2 * pad), np.float32)
    for ky in range(kernel):
        for kx in range(kernel):
            part = dwindows[..., ky, kx]
            rows, columns = (slice(k, k + stride * n, stride) for k, n in zip((ky, kx), part.shape[2:], strict=True))
            dx[:, :, rows, columns] += part
    return dx[:, :, pad : pad + height, pad : pad + width]


@dataclass
class Weighted:
    """What layers with weights have in common."""

    weights: Array
    bias: Array
    gradients: list[Array] = field(init=False, default_factory=list)

    @property
    def parameters(self) -> list[Array]:
        return [self.weights, self.bias]


@dataclass
class Convolution(Weighted):
    """Convolution that keeps the size at stride 1, then ReLU if `relu`. `weights` [out, in, kernel, kernel], odd."""

    stride: int = 1
    relu: bool = True

    def forward(self, x: Array) -> Array:
        windows = _windows(x, self.weights.shape[-1], self.stride)
        self.shape, (batch, _, height, width) = x.shape, windows.shape[:4]
        self.patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch, height, width, -1)
        y = self.patches @ self.weights.reshape(len(self.weights), -1).T + self.bias
        self.active = (y > 0) | (not self.relu)
        return (y * self.active).transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> Array:
        dy = dy.transpose(0, 2, 3, 1) * self.active
        flat = dy.reshape(-1, dy.shape[-1])
        weights = (flat.T @ self.patches.reshape(len(flat), -1)).reshape(self.weights.shape)
        self.gradients = [weights, flat.sum(0)]
        kernel = self.weights.shape[-1]
        dpatches = (dy @ self.weights.reshape(len(self.weights), -1)).reshape(*dy.shape[:3], -1, kernel, kernel)
        return _scatter(dpatches.transpose(0, 3, 1, 2, 4, 5), self.shape, self.stride)


@dataclass
class Depthwise(Weighted):
    """Convolution of each channel with a kernel of its own, then ReLU. `weights` [channels, 1, kernel, kernel], odd."""

    def forward(self, x: Array) -> Array:
        self.shape, self.windows = x.shape, _windows(x, self.weights.shape[-1], 1)
        y = np.einsum("bchwyx,cyx->bchw", self.windows, self.weights[:, 0]) + self.bias[:, None, None]
        self.active = y > 0
        return np.maximum(y, 0)

    def backward(self, dy: Array) -> Array:
        dy = dy * self.active
        self.gradients = [np.einsum("bchwyx,bchw->cyx", self.windows, dy)[:, None], dy.sum((0, 2, 3))]
        return _scatter(np.einsum("bchw,cyx->bchwyx", dy, self.weights[:, 0]), self.shape, 1)


class MaxPool:
    """Maximum of windows of 2 x 2, stride 2."""

    parameters: tuple[Array, ...] = ()
    gradients: tuple[Array, ...] = ()

    def forward(self, x: Array) -> Array:
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
        y = blocks.max((3, 5), keepdims=True)
        # Equal values share the gradient.
        largest = blocks == y
        self.share = largest / largest.sum((3, 5), keepdims=True)
        return y[:, :, :, 0, :, 0]

    def backward(self, dy: Array) -> Array:
        dblocks = self.share * dy[:, :, :, None, :, None]
        batch, channels, height, _, width, _ = dblocks.shape
        return dblocks.reshape(batch, channels, 2 * height, 2 * width).astype(np.float32)


class Average:
    """The average of each channel."""

    parameters: tuple[Array, ...] = ()
    gradients: tuple[Array, ...] = ()

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.mean((2, 3), keepdims=True)

    def backward(self, dy: Array) -> Array:
        return np.broadcast_to(dy / (self.shape[2] * self.shape[3]), self.shape).astype(np.float32)


class Residual:
    """relu(x + layers(x))."""

    def __init__(self, layers: "Sequence[Layer]"):
        self.layers = layers

    @property
    def parameters(self) -> list[Array]:
        return [array for layer in self.layers for array in layer.parameters]

    @property
    def gradients(self) -> list[Array]:
        return [array for layer in self.layers for array in layer.gradients]

    def forward(self, x: Array) -> Array:
        y = x
        for layer in self.layers:
            y = layer.forward(y)
        self.active = x + y > 0
        return (x + y) * self.active

    def backward(self, dy: Array) -> Array:
        dy = dx = dy * self.active
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        return dy + dx


@dataclass
class Linear(Weighted):
    """y = x weights^T + bias on flattened images. `weights` [out, in]."""

    def forward(self, x: Array) -> Array:
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        return self.x @ self.weights.T + self.bias

    def backward(self, dy: Array) -> Array:
        self.gradients = [dy.T @ self.x, dy.sum(0)]
        return (dy @ self.weights).reshape(self.shape)


Layer = Convolution | Depthwise | MaxPool | Average | Residual | Linear


def plain(rng: np.random.Generator) -> "Network":
    """1 -> 16, 16 -> 32 by stride 2, 32 -> 32, then 10 classes."""
    return Network(
        [
            Convolution(_normal(rng, 16, 1, 3, 3), _zeros(16)),
            Convolution(_normal(rng, 32, 16, 3, 3), _zeros(32), 2),
            Convolution(_normal(rng, 32, 32, 3, 3), _zeros(32)),
            Linear(_normal(rng, 10, 32 * 4 * 4), _zeros(10)),
        ]
    )


def residual(rng: np.random.Generator) -> "Network":
    """1 -> 16, depthwise and pointwise to 32, pooling, two convolutions with a way around them, average, 10 classes."""
    return Network(
        [
            Convolution(_normal(rng, 16, 1, 3, 3), _zeros(16)),
            Depthwise(_normal(rng, 16, 1, 3, 3), _zeros(16)),
            Convolution(_normal(rng, 32, 16, 1, 1), _zeros(32)),
            MaxPool(),
            Residual(
                [
                    Convolution(_normal(rng, 32, 32, 3, 3), _zeros(32)),
                    Convolution(_normal(rng, 32, 32, 3, 3), _zeros(32), relu=False),
                ]
            ),
            Average(),
            Linear(_normal(rng, 10, 32), _zeros(10)),
        ]
    )


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)


def _zeros(count: int) -> Array:
    return np.zeros(count, np.float32)


class Network:
    """Layers one after the other."""

    def __init__(self, layers: list[Layer]):
        self.layers = layers

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def step(self, x: Array, labels: NDArray[np.integer]) -> float:
        """Fill every layer's gradients with those of the mean cross entropy, and return it."""
        logits = self.forward(x)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        chance = odds / odds.sum(1, keepdims=True)
        dy = (chance - np.eye(10, dtype=np.float32)[labels]) / len(labels)
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return float(-np.log(chance[np.arange(len(labels)), labels] + 1e-9).mean())

    def parameters(self) -> list[Array]:
        return [array for layer in self.layers for array in layer.parameters]

    def gradients(self) -> list[Array]:
        return [array for layer in self.layers for array in layer.gradients]


class Adam:
    """Adam with its usual constants; updates the parameters in place."""

    def __init__(self, parameters: list[Array]):
        self.parameters, self.time = parameters, 0
        self.means = [np.zeros_like(p) for p in parameters]
        self.squares = [np.zeros_like(p) for p in parameters]

    def update(self, gradients: list[Array], rate: float) -> None:
        self.time += 1
        for p, g, mean, square in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            mean += 0.1 * (g - mean)
            square += 0.001 * (g * g - square)
            p -= rate * (mean / (1 - 0.9**self.time)) / (np.sqrt(square / (1 - 0.999**self.time)) + 1e-8)
