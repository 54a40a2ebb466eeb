"""A small convolutional network in plain NumPy: forward, gradients, Adam. Just enough to train the digits example."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Adam", "Convolution", "Linear", "Network"]

Array = NDArray[np.float32]


def _patches(x: Array, stride: int) -> Array:
    """3x3 windows of an image batch padded by one pixel: [batch, y, x, channels * 9]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    batch, channels, height, width = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch, height, width, channels * 9)


@dataclass
class Convolution:
    """3x3 convolution, padding 1, followed by ReLU. `weights` [out, in, 3, 3]."""

    weights: Array
    bias: Array
    stride: int
    gradients: list[Array] = field(default_factory=list)

    def forward(self, x: Array) -> Array:
        self.shape, self.patches = x.shape, _patches(x, self.stride)
        y = self.patches @ self.weights.reshape(len(self.weights), -1).T + self.bias
        self.active = y > 0
        return np.maximum(y, 0).transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> Array:
        dy = dy.transpose(0, 2, 3, 1) * self.active
        flat = dy.reshape(-1, dy.shape[-1])
        weights = (flat.T @ self.patches.reshape(len(flat), -1)).reshape(self.weights.shape)
        self.gradients = [weights, flat.sum(0)]
        dpatches = (dy @ self.weights.reshape(len(self.weights), -1)).reshape(*dy.shape[:3], -1, 3, 3)
        batch, channels, height, width = self.shape
        dx = np.zeros((batch, channels, height + 2, width + 2), np.float32)
        for ky in range(3):
            for kx in range(3):
                part = dpatches[..., ky, kx].transpose(0, 3, 1, 2)
                rows, columns = (
                    slice(k, k + self.stride * n, self.stride) for k, n in zip((ky, kx), part.shape[2:], strict=True)
                )
                dx[:, :, rows, columns] += part
        return dx[:, :, 1:-1, 1:-1]


@dataclass
class Linear:
    """y = x weights^T + bias on flattened images. `weights` [out, in]."""

    weights: Array
    bias: Array
    gradients: list[Array] = field(default_factory=list)

    def forward(self, x: Array) -> Array:
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        return self.x @ self.weights.T + self.bias

    def backward(self, dy: Array) -> Array:
        self.gradients = [dy.T @ self.x, dy.sum(0)]
        return (dy @ self.weights).reshape(self.shape)


class Network:
    """The layers of the example: 1 -> 16, 16 -> 32 by stride 2, 32 -> 32, then 10 classes."""

    def __init__(self, rng: np.random.Generator):
        def normal(*shape: int) -> Array:
            return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)

        def zeros(count: int) -> Array:
            return np.zeros(count, np.float32)

        self.layers: list[Convolution | Linear] = [
            Convolution(normal(16, 1, 3, 3), zeros(16), 1),
            Convolution(normal(32, 16, 3, 3), zeros(32), 2),
            Convolution(normal(32, 32, 3, 3), zeros(32), 1),
            Linear(normal(10, 32 * 4 * 4), zeros(10)),
        ]

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
        return [array for layer in self.layers for array in (layer.weights, layer.bias)]

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
