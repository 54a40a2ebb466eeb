"""One lane of the SFU's addition against `systolith.numerics.add`: new values and constants every cycle."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from systolith.config import Config
from systolith.numerics import add
from systolith.sim.testbench.support.environment import Environment

NAME = "sfu_add"
VALUES = 30_000
LATENCY, FACTORS_AFTER, SHIFT_AFTER, ENABLE_AFTER = 8, 1, 4, 7
"""Of systolith.hw.sfu.add, which would bring Amaranth into the simulator; a wrong one fails."""
FACTOR = (-(1 << 26), (1 << 26) - 1)
INT8 = np.array([-128, -127, -1, 0, 1, 126, 127])


def component(config: Config):
    from systolith.hw.sfu.add import Add

    return Add()


def operands(rng: np.random.Generator, count: int) -> dict[str, NDArray]:
    """Random operands; ratios as of scales, powers of two (ties), anything, and the ends of every range."""

    def bytes_of() -> NDArray:
        return np.where(rng.random(count) < 0.3, rng.choice(INT8, count), rng.integers(-128, 128, count))

    kind = rng.choice(4, count, p=[0.4, 0.3, 0.2, 0.1])
    shift = np.where(kind == 2, rng.integers(0, 64, count), rng.integers(0, 29, count))
    factors = []
    for _ in range(2):
        ratios = np.exp2(shift + rng.uniform(-6, 2, count))
        powers = np.exp2(np.maximum(shift - rng.integers(0, 5, count), 0))
        anything = rng.integers(FACTOR[0], FACTOR[1] + 1, count)
        extreme = rng.choice(np.array([*FACTOR, 0, 1, -1]), count)
        factor = np.choose(kind, [ratios, powers, anything, extreme]) * rng.choice([1, 1, -1], count)
        factors.append(np.clip(factor, *FACTOR).astype(np.int64))
    limits = np.sort(rng.integers(-128, 128, (2, count)), axis=0)
    limits = np.where(rng.random(count) < 0.7, [[-128], [127]], limits)
    return {"value": bytes_of(), "operand": bytes_of(), "zero_a": bytes_of(), "zero_b": bytes_of(), "a": factors[0],
            "b": factors[1], "shift": shift, "zero_point": bytes_of(), "low": limits[0], "high": limits[1],
            "enable": rng.random(count) < 0.95}  # fmt: skip


def expected(v: dict[str, NDArray]) -> list[int]:
    """What the lane must make of `operands`; `numerics.add` takes constants for all values, so one by one."""
    result = []
    for i in range(len(v["value"])):
        names = ("value", "operand", "zero_a", "zero_b", "a", "b", "shift", "zero_point", "low", "high", "enable")
        value, operand, zero_a, zero_b, a, b, shift, zero, low, high, enable = (int(v[name][i]) for name in names)
        total = add(np.int8(value), np.int8(operand), (zero_a, zero_b), (a, b, shift), zero, low, high)
        result.append(int(total) if enable else value)
    return result


@cocotb.test()
async def random_values(dut):
    bench = Environment(dut)
    await bench.reset()
    values = operands(bench.numpy, VALUES)
    wanted = expected(values)
    lists = {name: column.tolist() for name, column in values.items()}
    for cycle in range(VALUES + LATENCY):
        if cycle < VALUES:
            for name in ("value", "operand", "zero_a", "zero_b"):
                getattr(dut, name).value = lists[name][cycle]
        if 0 <= (i := cycle - FACTORS_AFTER) < VALUES:
            dut.factors.value = lists["a"][i] & (1 << 27) - 1 | (lists["b"][i] & (1 << 27) - 1) << 27
        if 0 <= (i := cycle - SHIFT_AFTER) < VALUES:
            dut.shift.value = lists["shift"][i]
        if 0 <= (i := cycle - ENABLE_AFTER) < VALUES:
            dut.enable.value = lists["enable"][i]
            limits = (lists[name][i] & 255 for name in ("zero_point", "low", "high"))
            dut.constants.value = int.from_bytes(bytes(limits), "little")
        await RisingEdge(dut.clk)
        if (i := cycle - LATENCY) >= 0:
            found = dut.output.value.to_signed()
            assert found == wanted[i], f"value {i}: { ({k: v[i] for k, v in lists.items()}) } gave {found}"
    cover(bench, values, np.array(wanted))
    bench.finish(require=("tie up", "tie down", "inside", "saturated", "shift 0", "shift 63", "largest", "disabled"))


def cover(bench: Environment, v: dict[str, NDArray], wanted: NDArray) -> None:
    total = (v["value"] - v["zero_a"]) * v["a"] + (v["operand"] - v["zero_b"]) * v["b"]
    floor, rest = total >> v["shift"], total & (1 << v["shift"]) - 1
    tie = (rest == 1 << v["shift"] - 1) & (v["shift"] > 0) & (abs(floor) < 100) & v["enable"]
    bench.cover("tie up", np.count_nonzero(tie & (floor + v["zero_point"] & 1 == 1)))
    bench.cover("tie down", np.count_nonzero(tie & (floor + v["zero_point"] & 1 == 0)))
    bench.cover("inside", np.count_nonzero((wanted > v["low"]) & (wanted < v["high"]) & v["enable"]))
    bench.cover("saturated", np.count_nonzero(abs(floor) > 1 << 20))
    bench.cover("shift 0", np.count_nonzero(v["shift"] == 0))
    bench.cover("shift 63", np.count_nonzero(v["shift"] == 63))
    bench.cover("largest", np.count_nonzero(abs(total) > 1 << 34))
    bench.cover("disabled", np.count_nonzero(~v["enable"]))
