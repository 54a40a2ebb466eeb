"""The testbench of both resets amid programs: tiny4, and wide beats with a depthwise unit."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.testbench import reset_bench
from systolith.sim.testbench.runner import run_bench

TINY = PRESETS["tiny4"]
WIDE = replace(TINY, axi_data_bits=256, axi_burst=4, axi_buffer=16, dw_taps=3, dw_depth=64)


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["tiny4", "wide beats"])
def test_reset(config):
    result = run_bench(reset_bench.component(config), reset_bench.__name__, config, seed=1)
    assert result.passed, result.log
