"""The testbench of fetch, dispatch, tokens and supervisor with beats of 64, 128 and 256 bits."""

from dataclasses import replace

import pytest

from systolith.config import PRESETS
from systolith.hw.control.dispatch import legal
from systolith.isa import FORMATS, Opcode, Unit
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import control_bench

TINY = PRESETS["tiny4"]
DEPTHWISE = replace(TINY, dw_taps=1)
CONFIGS = (TINY, PRESETS["edge16"], replace(DEPTHWISE, axi_data_bits=256, axi_burst=1, token_bits=2, queue_depth=2))


@pytest.mark.parametrize("config", CONFIGS, ids=["64 bits", "128 bits", "256 bits, depthwise"])
def test_control(config):
    result = run_bench(control_bench.component(config), control_bench.__name__, config, seed=1)
    assert result.passed, result.log


def test_legal():
    assert all(legal(DEPTHWISE, opcode, unit, 0, 0, 0) for opcode, unit in FORMATS)
    assert all(legal(TINY, opcode, unit, 0, 0, 0) for opcode, unit in FORMATS if unit != Unit.DEPTHWISE)
    assert legal(TINY, Opcode.CONFIG, Unit.SFU, 31, 31, 0)
    assert not legal(TINY, Opcode.CONFIG, Unit.LOAD_W, 0, 0, 0)
    assert not legal(TINY, Opcode.END, Unit.CONTROL, 1, 0, 0)
    assert not legal(TINY, Opcode.LOAD, Unit.LOAD_W, 0, 0, 1)


def test_legal_depends_on_the_depthwise_unit():
    for header in ((Opcode.EXECUTE, Unit.DEPTHWISE, 0, 0, 0), (Opcode.LOAD, Unit.LOAD_W, 32, 0, 0),
                   (Opcode.CONFIG, Unit.DEPTHWISE, 0, 0, 0), (Opcode.SFU, Unit.SFU, 0, 32, 0)):  # fmt: skip
        assert legal(DEPTHWISE, *header) and not legal(TINY, *header)
