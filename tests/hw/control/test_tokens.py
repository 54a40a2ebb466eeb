"""The token counters' testbench on counters of 4 and of 2 bits, and with a sixth unit."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import tokens_bench

TINY = PRESETS["tiny4"]


@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, token_bits=2), replace(TINY, dw_taps=1)], ids=["4 bits", "2 bits", "depthwise"]
)
def test_tokens(config):
    result = run_bench(tokens_bench.component(config), tokens_bench.__name__, config, seed=1)
    assert result.passed, result.log
