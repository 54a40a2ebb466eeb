"""Convolution for the golden model: exact int32 accumulators by matrix products of floats.

Products are summed in float32, at most `EXACT_K` at a time, which is exact: 512 * 255 * 128 < 2^24. Columns of a few
output rows are gathered at a time. A group of one channel is no matrix product, and is summed tap by tap.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from systolith.compiler.ir.graph import Conv

__all__ = ["convolve"]

EXACT_K = 512
ROOM = 1 << 24
"""Columns (float32) gathered at a time."""


def convolve(layer: Conv, x: NDArray[np.int8], zero_point: int) -> NDArray[np.int32]:
    """Accumulators with bias, [batch, height, width, output channels], of a layer for input [batch, C, H, W].

    They are added as int32, which the front end has proved to be enough.
    """
    by_channel = layer.groups > 1 and layer.weights.shape[1] == 1
    pixels = np.moveaxis(x, 1, -1).astype(np.int32 if by_channel else np.float32) - zero_point
    windows = _windows(layer, _pad(pixels, layer.pads), layer.output_size(*x.shape[2:]))
    return (_by_channel if by_channel else _by_group)(layer, windows) + layer.bias


def _pad(pixels: NDArray, pads: tuple[int, int, int, int]) -> NDArray:
    """Zeros around the image; negative pads leave out rows or columns."""
    top, left, bottom, right = (max(pad, 0) for pad in pads)
    _, height, width, _ = pixels.shape
    cut_top, cut_left, cut_bottom, cut_right = (max(-pad, 0) for pad in pads)
    pixels = pixels[:, cut_top : height - cut_bottom, cut_left : width - cut_right]
    return np.pad(pixels, ((0, 0), (top, bottom), (left, right), (0, 0)))


def _windows(layer: Conv, pixels: NDArray, size: tuple[int, int]) -> NDArray:
    """What each tap of each output meets, a view [batch, rows, columns, kernel y, kernel x, channels]."""
    (kernel_y, kernel_x), (sy, sx), (dy, dx) = layer.weights.shape[2:], layer.stride, layer.dilation
    span = (kernel_y - 1) * dy + 1, (kernel_x - 1) * dx + 1
    views = sliding_window_view(pixels, span, (1, 2))[:, ::sy, ::sx, :, ::dy, ::dx]
    return views[:, : size[0], : size[1]].transpose(0, 1, 2, 4, 5, 3)


def _by_channel(layer: Conv, windows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each group has one input channel: the sum over taps of products."""
    outputs, _, kernel_y, kernel_x = layer.weights.shape
    weights = layer.weights.astype(np.int32)
    sums = np.zeros((*windows.shape[:3], outputs), np.int32)
    for ky, kx in np.ndindex(kernel_y, kernel_x):
        tap = windows[:, :, :, ky, kx]
        sums += np.repeat(tap, outputs // layer.groups, axis=-1) * weights[:, 0, ky, kx]
    return sums


def _by_group(layer: Conv, windows: NDArray[np.float32]) -> NDArray[np.int32]:
    outputs, channels, *_ = layer.weights.shape
    each = outputs // layer.groups
    sums = np.empty((*windows.shape[:3], outputs), np.int32)
    # [group][tap and channel, output]
    weights = layer.weights.astype(np.float32).transpose(2, 3, 1, 0).reshape(-1, layer.groups, each)
    for images, rows in _chunks(windows.shape, channels):
        for group in range(layer.groups):
            inputs = windows[images, rows, ..., group * channels : (group + 1) * channels]
            product = _product(inputs.reshape(-1, len(weights)), weights[:, group])
            sums[images, rows, :, group * each : (group + 1) * each] = product.reshape(*inputs.shape[:3], each)
    return sums


def _chunks(shape: tuple[int, ...], channels: int) -> Iterator[tuple[slice, slice]]:
    """Images and output rows whose columns fit into `ROOM`."""
    batch, height, width, kernel_y, kernel_x, _ = shape
    row = width * kernel_y * kernel_x * channels
    images, rows = max(1, ROOM // (row * height)), max(1, ROOM // row)
    for image in range(0, batch, images):
        for first in range(0, height, rows):
            yield slice(image, image + images), slice(first, first + rows)


def _product(columns: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.int32]:
    """Exact int32 product of matrices of integers."""
    sums = np.zeros((len(columns), weights.shape[1]), np.int32)
    for k in range(0, len(weights), EXACT_K):
        sums += (columns[:, k : k + EXACT_K] @ weights[k : k + EXACT_K]).astype(np.int32)
    return sums
