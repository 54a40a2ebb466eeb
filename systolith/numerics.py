"""Quantized arithmetic on NumPy arrays: the contract of golden model, instruction simulator, hardware and compiler."""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ADD_BITS",
    "add",
    "add_constants",
    "average_scale",
    "look_up",
    "output_scale",
    "requantize",
    "round_to_float32",
]

ADD_BITS = 26
"""Magnitude of the multipliers of `add`."""
MAX_SHIFT = 63


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
    joint: bool = False,
) -> NDArray[np.int8]:
    """clamp(rint(float32(accumulator) * scale) + zero_point, low, high): IEEE float32, ties to even.

    `accumulator` int32 [..., channels] with the bias in it, `scale` float32 broadcast over it. `low` and `high` are in
    the int8 domain and at most as wide. Measured equal to ONNX Runtime's QLinearConv in millions of outputs. With
    `joint` it is rint(product + zero_point), that sum exact: a tie goes to the even sum. So does QLinearMul, but for
    its own float32 error in that sum: 1 of 6 million outputs differed, by one step.
    """
    with np.errstate(over="ignore"):
        product = round_to_float32(accumulator) * np.asarray(scale, np.float32)
    # Far outside int8 the integer conversion would overflow; beyond +-512 all saturates, whatever the zero point.
    limited = np.clip(product, np.float32(-512), np.float32(512))
    if joint:
        return np.clip(np.rint(limited.astype(np.float64) + zero_point), low, high).astype(np.int8)
    return np.clip(np.rint(limited).astype(np.int32) + zero_point, low, high).astype(np.int8)


def average_scale(x_scale: float, y_scale: float, count: int) -> np.float32:
    """Factor from a sum of `count` values to their average, as ONNX Runtime's pools have it: x / (y * count).

    Measured equal to QLinearGlobalAveragePool on every output. QLinearAveragePool adds dequantized float32 values and
    rounds after adding the zero point: it differs, by one step, where the average lies half way between two outputs,
    which happens with scales that are simple multiples of each other (17 % of outputs at worst, none with others).
    """
    return np.float32(np.float32(x_scale) / (np.float32(y_scale) * np.float32(count)))


def add_constants(a_scale: float, b_scale: float, y_scale: float, sign: int = 1) -> tuple[int, int, int]:
    """(multiplier_a, multiplier_b, shift) of `add` for y = a + sign * b: the float32 ratios of the scales as fixed
    point, the larger one with all its bits. Raises OverflowError where a ratio is 2^26 or more."""
    ratios = np.float32(a_scale) / np.float32(y_scale), np.float32(b_scale) / np.float32(y_scale)
    _, exponent = np.frexp(max(ratios))
    shift = int(min(max(ADD_BITS - exponent, 0), MAX_SHIFT))
    first, second = (int(np.rint(np.ldexp(np.float64(ratio), shift))) for ratio in ratios)
    if max(first, second) >= 1 << ADD_BITS:
        raise OverflowError(f"scale ratios must be below 2^{ADD_BITS}, not {max(ratios)}")
    return first, sign * second, shift


def add(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    zeros: tuple[int, int],
    constants: tuple[int, int, int],
    zero_point: int,
    low: int = -128,
    high: int = 127,
) -> NDArray[np.int8]:
    """clamp(rint(((a - zeros[0]) * multiplier_a + (b - zeros[1]) * multiplier_b) / 2^shift + zero_point), low, high),
    exact; a tie goes to the even sum with the zero point.

    ONNX Runtime's QLinearAdd does the same in float32, with its rounding errors: 9 of 6 million outputs differed from
    exact arithmetic, each by one step.
    """
    first, second, shift = constants
    total = (a.astype(np.int64) - zeros[0]) * first + (b.astype(np.int64) - zeros[1]) * second
    if shift:
        half = np.int64(1) << (shift - 1)
        total = (total + (half - 1) + ((total >> shift) + zero_point & 1)) >> shift
    return np.clip(total + zero_point, low, high).astype(np.int8)


def look_up(values: NDArray[np.int8], table: NDArray[np.int8]) -> NDArray[np.int8]:
    """`table` int8 [256]: entry v is what value v, as an unsigned byte, becomes."""
    return table[values.view(np.uint8)]
