"""The processing element's testbench: partial sums of the narrowest and of an odd width."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import pe_bench

TINY = PRESETS["tiny4"]
TWELVE = replace(TINY, name="twelve", array=12, sfu_lanes=4, act_banks=3, act_depth=3 * 64, weight_depth=12 * 40)


@pytest.mark.parametrize("config", [TINY, TWELVE], ids=lambda config: config.name)
def test_pe(config):
    result = run_bench(pe_bench.component(config), pe_bench.__name__, config, seed=5)
    assert result.passed, result.log
