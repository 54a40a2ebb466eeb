"""Where the windows of EXECUTE, DEPTHWISE and SFU instructions fall: from positions of the input to words of memory."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from systolith.isa import ADDRESS_BITS

__all__ = ["PADDING", "window_words"]

ADDRESS_MASK = (1 << ADDRESS_BITS) - 1
PADDING = -1
"""Index of the word that stands behind those of a memory, which holds what padding reads as."""


def window_words(
    source: Mapping[str, int],
    kernel: Mapping[str, int],
    origin: tuple[int | NDArray[np.int64], int, int],
    rows: range,
    cols: int,
) -> NDArray[np.int64]:
    """The word of each output (oy in `rows`, ox) and tap (ky, kx), [rows, cols, kernel_y, kernel_x]; -1, which is the
    word of padding, where a position lies outside the input.

    `source` has height, width and row stride of the input, `kernel` the rest of the constants. `origin`: the word of
    position (0, 0), or an array of them, whose axis comes last in the result; then the position of output and tap
    (0, 0).
    """
    first, y0, x0 = origin
    oy, ky = np.ogrid[rows.start : rows.stop, : kernel["kernel_y"]]
    ox, kx = np.ogrid[:cols, : kernel["kernel_x"]]
    y = y0 + oy * kernel["stride_y"] + ky * kernel["dilation_y"]
    x = x0 + ox * kernel["stride_x"] + kx * kernel["dilation_x"]
    y_inside, x_inside = (y >= 0) & (y < source["height"]), (x >= 0) & (x < source["width"])
    words = (y * source["row_stride"])[:, None, :, None] + x[None, :, None, :]
    inside = y_inside[:, None, :, None] & x_inside[None, :, None, :]
    if isinstance(first, np.ndarray):
        words, inside = words[..., None], inside[..., None]
    return np.where(inside, words + first & ADDRESS_MASK, PADDING)
