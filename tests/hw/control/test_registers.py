"""The register file's testbench with 32, 40 and 64 bits of address."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import registers_bench

TINY = PRESETS["tiny4"]


@pytest.mark.parametrize("bits", [32, 40, 64])
def test_registers(bits):
    config = replace(TINY, axi_addr_bits=bits)
    result = run_bench(registers_bench.component(config), registers_bench.__name__, config, seed=bits)
    assert result.passed, result.log
