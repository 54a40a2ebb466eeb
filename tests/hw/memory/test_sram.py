"""The SRAM controllers' testbenches, on bank counts of a power of two and others."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import act_sram_bench, param_sram_bench, weight_sram_bench

TINY = PRESETS["tiny4"]
TWELVE = replace(TINY, name="twelve", array=12, sfu_lanes=4, act_banks=3, act_depth=3 * 64, weight_depth=72,
                 param_depth=5)  # fmt: skip
FIVE_BANKS = replace(TINY, name="five_banks", act_banks=5, act_depth=5 * 32, dw_taps=1)
DEPTHWISE = replace(TWELVE, name="depthwise", dw_taps=1)
ONE_BANK = replace(TINY, name="one_bank", act_banks=1, act_depth=64)


@pytest.mark.parametrize(
    ("bench", "config"),
    [
        (act_sram_bench, TINY),
        (act_sram_bench, TWELVE),
        (act_sram_bench, ONE_BANK),
        (act_sram_bench, FIVE_BANKS),
        (weight_sram_bench, TINY),
        (weight_sram_bench, TWELVE),
        (weight_sram_bench, DEPTHWISE),
        (param_sram_bench, TINY),
        (param_sram_bench, TWELVE),
    ],
    ids=lambda value: getattr(value, "NAME", None) or value.name,
)
def test_sram(bench, config):
    result = run_bench(bench.component(config), bench.__name__, config, seed=3)
    assert result.passed, result.log
