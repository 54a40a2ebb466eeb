"""Quantized arithmetic on NumPy arrays: the contract of golden model, instruction simulator, hardware and compiler."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["output_scale", "requantize", "round_to_float32"]


def output_scale(x_scale: float, w_scale: NDArray[np.float32], y_scale: float) -> NDArray[np.float32]:
    """Factor from accumulator to output, float32 at every step as ONNX Runtime computes it: (x * w) / y."""
    product = np.float32(x_scale) * np.asarray(w_scale, np.float32)
    return (product / np.float32(y_scale)).astype(np.float32)


def round_to_float32(accumulator: NDArray[np.int32]) -> NDArray[np.float32]:
    """int32 to the nearest float32, ties to even; exact below 2^24."""
    return np.asarray(accumulator, np.int32).astype(np.float32)


def requantize(
    accumulator: NDArray[np.int32],
    scale: NDArray[np.float32],
    zero_point: int,
    low: int = -128,
    high: int = 127,
) -> NDArray[np.int8]:
    """clamp(rint(float32(accumulator) * scale) + zero_point, low, high): IEEE float32, ties to even.

    `accumulator` int32 [..., channels] with the bias in it, `scale` float32 broadcast over it. `low` and `high` are in
    the int8 domain and at most as wide. Measured equal to ONNX Runtime's QLinearConv in millions of outputs.
    """
    with np.errstate(over="ignore"):
        product = round_to_float32(accumulator) * np.asarray(scale, np.float32)
    # Far outside int8 the integer conversion would overflow; beyond +-512 all saturates, whatever the zero point.
    rounded = np.rint(np.clip(product, np.float32(-512), np.float32(512))).astype(np.int32)
    return np.clip(rounded + zero_point, low, high).astype(np.int8)
