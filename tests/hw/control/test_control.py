"""Which instructions dispatch takes, with and without a depthwise unit."""

from dataclasses import replace

from systolith.config import PRESETS
from systolith.hw.control.dispatch import legal
from systolith.isa import FORMATS, Opcode, Unit

TINY = PRESETS["tiny4"]
DEPTHWISE = replace(TINY, dw_taps=1)


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
