"""Instructions: encoding there and back for every format, ranges, unused bits, undefined ones, disassembly."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systolith import SystolithError, isa
from systolith.isa import CONFIG_FORMATS, FORMATS, Format, Instruction, Opcode, Unit

ALL = [(unit, form) for (_, unit), form in FORMATS.items()] + [
    (unit, form) for (unit, _), form in CONFIG_FORMATS.items()
]


def instructions(unit: Unit, form: Format):
    values = st.fixed_dictionaries({f.name: st.integers(f.low, f.high) for f in form.fields})
    return st.builds(Instruction, st.just(form), st.just(unit), values, st.integers(0, 63), st.integers(0, 63))


@given(st.one_of([instructions(unit, form) for unit, form in ALL]))
def test_round_trip(instruction):
    data = isa.encode(instruction)
    assert len(data) == isa.INSTRUCTION_BYTES
    assert isa.decode(data) == instruction


@pytest.mark.parametrize(("unit", "form"), ALL, ids=[f"{form.name}-{unit.name}" for unit, form in ALL])
def test_every_field_alone(unit, form):
    """Each field's limits come back, and change nothing else; one beyond is refused by field and format."""
    zero = dict.fromkeys((f.name for f in form.fields), 0)
    for f in form.fields:
        for value in (f.low, f.high):
            assert isa.decode(isa.encode(Instruction(form, unit, {**zero, f.name: value}))).values == {
                **zero,
                f.name: value,
            }
        for value in (f.low - 1, f.high + 1):
            message = f"Field '{f.name}' of {form.name} must be from {f.low} to {f.high}, not {value}"
            with pytest.raises(SystolithError, match=f"^{re.escape(message)}$"):
                isa.encode(Instruction(form, unit, {**zero, f.name: value}))


@pytest.mark.parametrize("mask", ["wait", "signal"])
def test_masks_are_checked(mask):
    with pytest.raises(SystolithError, match=f"Field '{mask}' of END must be from 0 to 63, not 64"):
        isa.encode(isa.make("END", **{mask: 64}))


@given(st.binary(min_size=16, max_size=16))
def test_any_16_bytes_decode_to_themselves_or_are_refused(data):
    try:
        instruction = isa.decode(data, 7)
    except SystolithError as error:
        assert str(error).startswith("Instruction 7 ")
        assert "\n" not in str(error)
    else:
        assert isa.encode(instruction) == data


@pytest.mark.parametrize(("unit", "form"), ALL, ids=[f"{form.name}-{unit.name}" for unit, form in ALL])
def test_unused_bits_must_be_zero(unit, form):
    data = isa.encode(Instruction(form, unit, dict.fromkeys((f.name for f in form.fields), 0)))
    end = form.start + sum(f.bits for f in form.fields)
    for bit in (isa.PAYLOAD_START - 1, *range(end, 128)):
        word = int.from_bytes(data, "little") | 1 << bit
        with pytest.raises(
            SystolithError, match=re.escape(f"Instruction 3 ({form.name}) must have zeros in its unused bits")
        ):
            isa.decode(word.to_bytes(16, "little"), 3)


def test_undefined_ones_are_refused():
    for word in (0, 15, Opcode.SFU | Unit.LOAD_W << 4, Opcode.CONFIG | Unit.STORE << 4 | 9 << isa.PAYLOAD_START):
        with pytest.raises(SystolithError, match=r"^Instruction 5 must be a defined opcode of its unit, not opcode"):
            isa.decode(word.to_bytes(16, "little"), 5)


def test_masks_have_a_bit_for_every_unit_with_a_queue():
    queued = [unit for unit in Unit if unit != Unit.CONTROL]
    bits = {f.name: f.bits for f in isa.HEADER}
    assert sorted(queued) == list(range(bits["wait"])) == list(range(bits["signal"]))
    assert all(unit < 1 << bits["unit"] for unit in Unit)


def test_the_depthwise_unit_has_an_opcode_and_constants():
    assert FORMATS[Opcode.EXECUTE, Unit.DEPTHWISE].name == "DEPTHWISE"
    assert isa.make("DEPTHWISE", **dict.fromkeys((f.name for f in FORMATS[Opcode.EXECUTE, Unit.DEPTHWISE].fields), 0)
                    ).unit == Unit.DEPTHWISE  # fmt: skip
    assert {form.name for (unit, _), form in CONFIG_FORMATS.items() if unit == Unit.DEPTHWISE} == {
        "CONFIG.DEPTHWISE.input", "CONFIG.DEPTHWISE.kernel"}  # fmt: skip


def test_length_is_checked():
    with pytest.raises(SystolithError, match=r"^Instruction 2 must have 16 bytes, not 15$"):
        isa.decode(bytes(15), 2)
    with pytest.raises(SystolithError, match=r"^Code must be a multiple of 16 bytes, not 17$"):
        list(isa.decode_program(bytes(17)))


def test_make_wants_every_field():
    with pytest.raises(SystolithError, match=r"^Instruction SFU must have fields \['memory', .*\], not \['memory'\]$"):
        isa.make("SFU", memory=0)


def test_program_round_trip():
    program = [
        isa.make("LOAD.W", region=1, offset=1 << 31, sram=0, words=4, target=1, signal=1 << Unit.SFU),
        isa.make("END"),
    ]
    code = isa.encode_program(program)
    assert list(isa.decode_program(code)) == program


def test_disassembly_names_fields_and_units():
    text = isa.disassemble(isa.make("STORE", wait=1 << Unit.SFU, region=3, offset=16, sram=2, rows=1, cols=9))
    assert text.split() == ["STORE", "region=3", "offset=16", "sram=2", "rows=1", "cols=9", "wait=sfu"]


def test_every_name_can_be_made():
    for form in {form.name: form for _, form in reversed(ALL)}.values():
        assert isa.make(form.name, **dict.fromkeys((f.name for f in form.fields), 1)).form is form
