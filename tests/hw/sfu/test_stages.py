"""The lane's stages: their testbenches know their latencies."""

from systolith.hw.sfu import reduce, table
from systolith.sim.testbench import sfu_reduce_bench, sfu_table_bench


def test_reduce():
    bench, stage = sfu_reduce_bench, reduce
    assert (bench.LATENCY, bench.FOLD_AFTER) == (stage.LATENCY, stage.FOLD_AFTER)
    assert (bench.OPERAND_AFTER, bench.MULTIPLY_AFTER) == (stage.OPERAND_AFTER, stage.MULTIPLY_AFTER)


def test_table():
    bench = sfu_table_bench
    assert (bench.LATENCY, bench.ENABLE_AFTER) == (table.LATENCY, table.ENABLE_AFTER)
