"""The systolic array's testbench."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import array_bench

TINY = PRESETS["tiny4"]
TWELVE = replace(TINY, name="twelve", array=12, sfu_lanes=4, act_banks=3, act_depth=3 * 64, weight_depth=12 * 40)


@pytest.mark.parametrize("config", [TINY, TWELVE], ids=lambda config: config.name)
def test_array(config):
    result = run_bench(array_bench.component(config), array_bench.__name__, config, seed=6)
    assert result.passed, result.log
