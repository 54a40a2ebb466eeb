"""Addition two ways: the contract's NumPy function, and plain integers. The lane's testbench compares its Verilog."""

import numpy as np

from systolith import numerics
from systolith.hw.sfu import add
from systolith.sim.testbench import sfu_add_bench


def test_integers_equal_numpy():
    values = sfu_add_bench.operands(np.random.default_rng(6), 20_000)
    values["enable"][:] = True
    found = [
        add.add(value - zero_a, operand - zero_b, (a, b), shift, zero_point, low, high)
        for value, operand, zero_a, zero_b, a, b, shift, zero_point, low, high, _ in zip(
            *(column.tolist() for column in values.values()), strict=True
        )
    ]
    assert found == sfu_add_bench.expected(values)


def test_every_pair_around_ties():
    """All pairs of bytes, with halves, quarters and eighths: exact rationals rounded by Python."""
    a, b = np.meshgrid(np.arange(-128, 128, dtype=np.int8), np.arange(-128, 128, dtype=np.int8))
    for shift in (1, 2, 3):
        zero_point = shift - 2
        found = numerics.add(a, b, (0, 0), (1, 1, shift), zero_point)
        wanted = np.clip(np.rint((a.astype(float) + b) / 2**shift + zero_point), -128, 127)
        assert np.array_equal(found, wanted)
        exact = [add.add(int(x), int(y), (1, 1), shift, zero_point) for x, y in zip(a.flat, b.flat, strict=True)]
        assert exact == wanted.reshape(-1).tolist()


def test_the_testbench_knows_the_latencies():
    latencies = (add.LATENCY, add.FACTORS_AFTER, add.SHIFT_AFTER, add.ENABLE_AFTER)
    bench = sfu_add_bench
    assert latencies == (bench.LATENCY, bench.FACTORS_AFTER, bench.SHIFT_AFTER, bench.ENABLE_AFTER)
