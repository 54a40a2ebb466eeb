"""The testbench of the depthwise unit with 1, 3 and 9 multipliers a lane."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import depthwise_bench

TINY = replace(PRESETS["tiny4"], dw_depth=64)
CONFIGS = (
    replace(TINY, name="one_tap", dw_taps=1),
    replace(TINY, name="three_taps", dw_taps=3),
    replace(TINY, name="nine_taps", dw_taps=9),
    replace(TINY, name="twelve_lanes", dw_taps=9, array=12, act_banks=3, act_depth=3 * 128, weight_depth=300),
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_depthwise(config):
    result = run_bench(depthwise_bench.component(config), depthwise_bench.__name__, config, seed=4)
    assert result.passed, result.log
