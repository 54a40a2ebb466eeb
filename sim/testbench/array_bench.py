"""The systolic array against NumPy matrix products: tiles of any height, as close together as they may be."""

from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from systolith.config import Config
from systolith.sim.testbench.support.environment import Environment

NAME = "array"
TILES = 120
PE_CYCLES = 3
"""From an activation to its sum below one PE, as the documentation of the array has it: latency = N - 1 + 3."""


def component(config: Config):
    """What to verilate."""
    from systolith.hw.array.array import SystolicArray

    return SystolicArray(config)


def pack(values: np.ndarray, mark: int) -> int:
    """A word of int8 lanes with a mark bit above them, as an integer."""
    return int.from_bytes(values.astype(np.int8).tobytes(), "little") | mark << 8 * len(values)


def unpack(word: int, bits: int, lanes: int) -> list[int]:
    """Signed lanes of a word."""
    values = (word >> bits * lane & (1 << bits) - 1 for lane in range(lanes))
    return [value - (1 << bits) if value >> bits - 1 else value for value in values]


@dataclass
class Schedule:
    """What goes in at which cycle, and which sums must come out; everything else is random."""

    rows: dict[int, np.ndarray] = field(default_factory=dict)
    swaps: set[int] = field(default_factory=set)
    words: dict[int, np.ndarray] = field(default_factory=dict)
    firsts: set[int] = field(default_factory=set)
    sums: dict[int, np.ndarray] = field(default_factory=dict)
    end: int = 0


def make_schedule(bench: Environment) -> Schedule:
    """Random tiles: weights from the swap before on, rows from N cycles after the weights on, bubbles between rows."""
    rng, size = bench.rng, bench.config.array
    plan, swap_before, free = Schedule(), 0, 0
    for _ in range(TILES):
        first = max(swap_before, max(plan.words, default=-1) + 1) + rng.choice([0, 0, 0, 1, rng.randrange(2 * size)])
        swap = max(first + size, free) + rng.choice([0, 0, 0, 1, rng.randrange(2 * size)])
        height = rng.choice([1, 2, size - 1, size, size + 1, rng.randrange(1, 3 * size)])
        weights, rows = random_matrix(bench, size), random_matrix(bench, height)
        plan.firsts.add(first)
        plan.words.update({first + k: weights[k] for k in range(size)})
        plan.swaps.add(swap)
        cycle, gaps = swap, rng.random() < 0.3
        for row in rows:
            plan.rows[cycle] = row
            plan.sums[cycle] = row.astype(np.int64) @ weights.astype(np.int64)
            cycle += 1 + (gaps and rng.randrange(3))
        bench.cover("period of exactly N", swap - swap_before == size)
        bench.cover("M = 1", height == 1)
        bench.cover("M < N", height < size)
        bench.cover("M > N", height > size)
        bench.cover("weights during the swap before", first == swap_before)
        bench.cover("bubbles between rows", gaps)
        bench.cover("largest sum", int(np.abs(plan.sums[swap]).max()) == size << 14)
        swap_before, free = swap, max(plan.rows) + 1
    plan.end = free + 3 * size + PE_CYCLES
    return plan


def random_matrix(bench: Environment, height: int) -> np.ndarray:
    """Any int8 matrix, sometimes the one that makes the largest sums."""
    size = bench.config.array
    if bench.rng.random() < 0.3:
        return np.full((height, size), -128, np.int8)
    return bench.numpy.integers(-128, 128, (height, size), np.int8)


@cocotb.test()
async def random_tiles(dut):
    bench = Environment(dut)
    size, psum_bits = bench.config.array, bench.config.psum_bits
    dut.row.value = dut.weight.value = 0
    await bench.reset()
    plan, compared = make_schedule(bench), 0
    noise = bench.numpy.integers(-128, 128, (plan.end, 2, size), np.int8)
    for cycle in range(plan.end):
        dut.row.value = pack(plan.rows.get(cycle, noise[cycle][0]), cycle in plan.swaps)
        dut.weight.value = pack(plan.words.get(cycle, noise[cycle][1]), cycle in plan.firsts)
        await RisingEdge(dut.clk)
        found = None
        for column in range(size):
            given = cycle - (size - 1 + PE_CYCLES) - column
            if given in plan.sums:
                found = found or unpack(int(dut.sums.value), psum_bits, size)
                expected = int(plan.sums[given][column])
                assert found[column] == expected, f"cycle {cycle}, column {column}: expected {expected}, found {found}"
                compared += 1
    assert compared == len(plan.sums) * size
    bench.finish(
        require=(
            "period of exactly N",
            "M = 1",
            "M < N",
            "M > N",
            "weights during the swap before",
            "bubbles between rows",
            "largest sum",
        )
    )
