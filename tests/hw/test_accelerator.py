"""The whole accelerator's testbenches: tiny4, and a 12x12 array with wide beats, few lanes, small memories and a
depthwise unit."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import accelerator_bench, reset_bench

TINY = PRESETS["tiny4"]
SMALL = replace(TINY, array=12, act_depth=96, act_banks=3, weight_depth=33, sfu_lanes=3, axi_data_bits=256,
                axi_outstanding=1, axi_burst=2, axi_buffer=4, queue_depth=2, dw_taps=3, dw_depth=32)  # fmt: skip


@pytest.mark.parametrize("config", [TINY, SMALL], ids=["tiny4", "12x12"])
@pytest.mark.parametrize("bench", [accelerator_bench, reset_bench], ids=lambda bench: bench.NAME)
def test_accelerator(bench, config):
    result = run_bench(bench.component(config), bench.__name__, config, seed=1)
    assert result.passed, result.log
