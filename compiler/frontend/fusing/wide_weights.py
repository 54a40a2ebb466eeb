"""Wide weights: weights that do not fit int8 without their zero point, as a sum of two or three that fit.

x * (a + b) is [x, x] * [a, b]. The input has its channels twice, those of each group side by side. Quantizers write
wide weights if asked for asymmetric ones, as in models of uint8.
"""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.values.array import Array, Layers
from systolith.compiler.ir.graph import Concat, Select

__all__ = ["narrowed"]

CHANNELS = 1


def narrowed(
    name: str, x: Array, weights: NDArray[np.int16], groups: int, layers: Layers
) -> tuple[Array, NDArray[np.int8]]:
    """The input of a convolution, its channels as often as it takes, and weights [O, C / groups, y, x] that fit int8.

    `name` is for what is made of the input.
    """
    count = 1
    while not _fit(parts := np.concatenate([(weights + i) // count for i in range(count)], axis=1)):
        count += 1
    if count > 1:
        x = _repeated(f"{name}:{count}", x, count, groups, layers)
    return x, np.ascontiguousarray(parts.astype(np.int8))


def _fit(weights: NDArray[np.int16]) -> bool:
    return not weights.size or bool(weights.min() >= -128 and weights.max() <= 127)


def _repeated(name: str, x: Array, count: int, groups: int, layers: Layers) -> Array:
    assert x.roles is not None
    batch, channels, height, width = (role.size for role in x.roles)
    array = x.moved(name, (batch, count * channels, height, width))
    layers.append((Concat(name, "Concat", (x.name,) * count, name, CHANNELS), array))
    if groups == 1:
        return array
    order = np.arange(count * channels).reshape(count, groups, -1).swapaxes(0, 1).reshape(-1)
    grouped = x.moved(f"{name}:groups", (batch, count * channels, height, width))
    layers.append((Select(grouped.name, "Concat", name, grouped.name, tuple(order.tolist())), grouped))
    return grouped
