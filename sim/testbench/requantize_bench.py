"""One requantize lane against `systolith.numerics.requantize`: a new value every cycle, many on a tie or extreme."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from systolith.config import Config
from systolith.numerics import requantize
from systolith.sim.testbench.support.environment import Environment

NAME = "requantize"
VALUES = 40_000
LATENCY, CONSTANTS_AFTER = 12, 11
"""Of systolith.hw.sfu.requantize, which would bring Amaranth into the simulator; a wrong one fails."""
INT32 = (-(1 << 31), (1 << 31) - 1)
CORNERS = np.array([0, 1, -1, 2, -2, 3, 127, -128, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, -(1 << 24) - 1,
                    -(1 << 24) - 3, (1 << 25) + 2, (1 << 25) - 1, (1 << 30) + 64, INT32[1], INT32[1] - 63,
                    INT32[1] - 64, INT32[1] - 65, INT32[0], INT32[0] + 1])  # fmt: skip


def component(config: Config):
    from systolith.hw.sfu.requantize import Requantize

    return Requantize()


def operands(rng: np.random.Generator, count: int) -> dict[str, NDArray]:
    """Random operands of `requantize`; most results lie inside int8, near a tie or on one, and the rest is extreme."""
    any_length = rng.integers(1 << 31, 1 << 32, count) >> rng.integers(1, 32, count)
    few_bits = rng.integers(1, 64, count) << rng.integers(0, 26, count)
    cut = rng.integers(1, 8, count)  # bits that do not fit a float32, near one half of its last place
    rest = (1 << cut - 1) + rng.choice([-1, 0, 1], count) * (1 << np.maximum(cut - 1 - rng.integers(1, 7, count), 0))
    too_long = (rng.integers(1 << 23, 1 << 24, count) << cut) + np.where(cut > 1, rest, 1)
    corners = rng.choice(CORNERS, count)
    total = np.choose(rng.choice(4, count, p=[0.4, 0.2, 0.2, 0.2]), [any_length, few_bits, too_long, corners])
    total = np.clip(np.where(rng.random(count) < 0.5, -total, total), *INT32)

    # A scale that brings the total to some half integer, or a few units in the last place beside it.
    result = rng.integers(-260, 261, count) / 2 + np.where(rng.random(count) < 0.5, 0, rng.normal(0, 1e-4, count))
    fitting = np.abs(result / np.where(total == 0, 1, total)).astype(np.float32)
    fitting = (fitting.view(np.int32) + rng.integers(-2, 3, count, np.int32)).view(np.float32)
    power = np.ldexp(1.0, rng.integers(-34, 4, count)).astype(np.float32)
    anything = rng.integers(1 << 23, 255 << 23, count).astype(np.uint32).view(np.float32)
    extreme = rng.choice(np.array([2.0**-126, np.nextafter(np.float32(2.0**-126), np.float32(1)), 2.0**127,
                                   np.finfo(np.float32).max], np.float32), count)  # fmt: skip
    kind = rng.choice(4, count, p=[0.6, 0.2, 0.15, 0.05])
    scale = np.choose(kind, [fitting, power, anything, extreme])
    scale = np.where(np.isfinite(scale) & (scale >= 2.0**-126), scale, np.float32(1)).astype(np.float32)

    # Mostly such that the sum fits into 32 bits; else it wraps.
    bias = rng.integers(np.maximum(INT32[0], total - INT32[1]), np.minimum(INT32[1], total - INT32[0]) + 1)
    bias = np.where(rng.random(count) < 0.8, bias, rng.integers(INT32[0], INT32[1] + 1, count))
    limits = np.sort(rng.integers(-128, 128, (2, count)), axis=0)
    limits = np.where(rng.random(count) < 0.7, [[-128], [127]], limits)
    return {"accumulator": wrapped(total - bias), "bias": bias, "scale": scale,
            "zero_point": np.where(rng.random(count) < 0.5, 0, rng.integers(-128, 128, count)),
            "low": limits[0], "high": limits[1], "joint": rng.random(count) < 0.3}  # fmt: skip


def wrapped(values: NDArray) -> NDArray:
    """To int32, as 64-bit integers."""
    return values.astype(np.int32).astype(np.int64)


def expected(values: dict[str, NDArray]) -> NDArray[np.int8]:
    """What the lane must make of `operands`."""
    total = wrapped(values["accumulator"] + values["bias"])
    limits = values["zero_point"], values["low"], values["high"]
    return np.where(values["joint"], requantize(total, values["scale"], *limits, joint=True),
                    requantize(total, values["scale"], *limits))  # fmt: skip


@cocotb.test()
async def random_values(dut):
    bench = Environment(dut)
    await bench.reset()
    values = operands(bench.numpy, VALUES)
    wanted = expected(values).tolist()
    constants = (values["zero_point"] & 255 | (values["low"] & 255) << 8 | (values["high"] & 255) << 16).tolist()
    accumulators, biases = values["accumulator"].tolist(), values["bias"].tolist()
    scales, joints = values["scale"].view(np.uint32).tolist(), values["joint"].tolist()
    for cycle in range(VALUES + LATENCY):
        if cycle < VALUES:
            dut.accumulator.value = accumulators[cycle]
            dut.bias.value = biases[cycle]
            dut.scale.value = scales[cycle]
        if 0 <= cycle - CONSTANTS_AFTER < VALUES:
            dut.constants.value = constants[cycle - CONSTANTS_AFTER]
            dut.joint.value = joints[cycle - CONSTANTS_AFTER]
        await RisingEdge(dut.clk)
        if (i := cycle - LATENCY) >= 0:
            found = dut.output.value.to_signed()
            assert found == wanted[i], (
                f"value {i}: { ({k: v[i] for k, v in values.items()}) } gave {found}, not {wanted[i]}"
            )
    cover(bench, values)
    bench.finish(require=("tie", "joint tie", "rounded accumulator", "inside", "clamped", "saturated", "vanished",
                          "smallest total", "wrapped"))  # fmt: skip


def cover(bench: Environment, values: dict[str, NDArray]) -> None:
    total = wrapped(values["accumulator"] + values["bias"])
    bench.cover("wrapped", np.count_nonzero(total != values["accumulator"] + values["bias"]))
    product = total.astype(np.float32) * values["scale"].astype(np.float64)
    result = expected(values)
    tie = (product % 1 == 0.5) & (abs(product) < 128)
    bench.cover("tie", np.count_nonzero(tie))
    bench.cover("joint tie", np.count_nonzero(tie & values["joint"] & (values["zero_point"] % 2 == 1)))
    bench.cover("rounded accumulator", np.count_nonzero(total.astype(np.float32) != total))
    bench.cover("inside", np.count_nonzero((result > values["low"]) & (result < values["high"])))
    bench.cover("clamped", np.count_nonzero((result == values["low"]) & (values["low"] > -128)))
    bench.cover("saturated", np.count_nonzero(abs(product) > 2.0**40))
    bench.cover("vanished", np.count_nonzero((abs(product) < 2.0**-30) & (total != 0)))
    bench.cover("smallest total", np.count_nonzero(total == INT32[0]))
