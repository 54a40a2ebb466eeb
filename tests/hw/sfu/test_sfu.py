"""The SFU's testbenches: one to three channel groups a word, with and without a depthwise unit; the lane's stages."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.hw.sfu import reduce, table
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import sfu_bench, sfu_reduce_bench, sfu_table_bench

TINY = PRESETS["tiny4"]
TWELVE = replace(TINY, name="twelve", array=12, sfu_lanes=4, act_banks=3, act_depth=3 * 64, weight_depth=72,
                 param_depth=5, acc_depth=16, dw_taps=3, dw_depth=32)  # fmt: skip
ALL_LANES = replace(TINY, name="all_lanes", array=8, sfu_lanes=8, dw_taps=1, dw_depth=16)


@pytest.mark.parametrize("config", [TINY, TWELVE, ALL_LANES], ids=lambda config: config.name)
def test_sfu(config):
    result = run_bench(sfu_bench.component(config), sfu_bench.__name__, config, seed=4)
    assert result.passed, result.log


def test_reduce():
    bench, stage = sfu_reduce_bench, reduce
    assert (bench.LATENCY, bench.FOLD_AFTER) == (stage.LATENCY, stage.FOLD_AFTER)
    assert (bench.OPERAND_AFTER, bench.MULTIPLY_AFTER) == (stage.OPERAND_AFTER, stage.MULTIPLY_AFTER)
    result = run_bench(bench.component(TINY), bench.__name__, TINY, seed=5)
    assert result.passed, result.log


def test_table():
    bench = sfu_table_bench
    assert (bench.LATENCY, bench.ENABLE_AFTER) == (table.LATENCY, table.ENABLE_AFTER)
    result = run_bench(bench.component(TINY), bench.__name__, TINY, seed=6)
    assert result.passed, result.log
