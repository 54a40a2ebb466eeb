"""The testbench of EXECUTE with array and accumulators."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import execute_bench

TINY = PRESETS["tiny4"]
TWELVE = replace(TINY, name="twelve", array=12, sfu_lanes=4, act_banks=3, act_depth=3 * 64, weight_depth=12 * 40)


@pytest.mark.parametrize("config", [TINY, TWELVE], ids=lambda config: config.name)
def test_execute(config):
    result = run_bench(execute_bench.component(config), execute_bench.__name__, config, seed=8)
    assert result.passed, result.log
