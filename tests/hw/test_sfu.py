"""The SFU's testbench: two and one channel groups a row, and sizes that are no powers of two."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.testbench import sfu_bench
from systolith.sim.testbench.runner import run_bench

TINY = PRESETS["tiny4"]
TWELVE = replace(TINY, name="twelve", array=12, sfu_lanes=4, act_banks=3, act_depth=3 * 64, weight_depth=72,
                 param_depth=5, acc_depth=16)  # fmt: skip
ALL_LANES = replace(TINY, name="all_lanes", array=8, sfu_lanes=8)


@pytest.mark.parametrize("config", [TINY, TWELVE, ALL_LANES], ids=lambda config: config.name)
def test_sfu(config):
    result = run_bench(sfu_bench.component(config), sfu_bench.__name__, config, seed=4)
    assert result.passed, result.log
