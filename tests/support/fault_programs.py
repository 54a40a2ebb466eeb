"""Programs that the accelerator must stop at: the instruction simulator and the RTL alike, with the same error."""

from systolith import PRESETS
from systolith.isa import GROUP, HEADER, INSTRUCTION_BYTES, Instruction, Unit, encode, encode_program, make
from tests.support.handmade_program import instructions, mask

TINY = PRESETS["tiny4"]


def changed(index: int, **changes: int) -> list[Instruction]:
    """The convolution with some fields, or `wait` and `signal`, of one instruction changed."""
    listing = instructions(TINY, 5)
    old = listing[index]
    masks = {key: changes.pop(key, getattr(old, key)) for key in ("wait", "signal")}
    listing[index] = make(old.form.name, **masks, **{**old.values, **changes})
    return listing


def raw(index: int, instruction: Instruction, **header: int) -> bytes:
    """The convolution with one instruction replaced, whose header fields (or `group`) the encoder would not make."""
    word, position = int.from_bytes(encode(instruction), "little"), 0
    for field in (*HEADER, GROUP):
        if field.name in header:
            word &= ~((1 << field.bits) - 1 << position)
            word |= header[field.name] << position
        position += field.bits
    code = encode_program(instructions(TINY, 5))
    start = index * INSTRUCTION_BYTES
    return code[:start] + word.to_bytes(INSTRUCTION_BYTES, "little") + code[start + INSTRUCTION_BYTES :]


FAULTS = [
    (changed(0, words=0), "OPERAND", Unit.LOAD_W, 0),
    (changed(0, sram=8 * TINY.param_depth - 7), "SRAM_RANGE", Unit.LOAD_W, 0),
    (changed(1, sram=TINY.weight_depth - 35), "SRAM_RANGE", Unit.LOAD_W, 1),
    (changed(1, offset=33), "REGION_RANGE", Unit.LOAD_W, 1),
    (changed(1, region=6), "REGION_RANGE", Unit.LOAD_W, 1),
    (changed(3, lane=1), "OPERAND", Unit.LOAD_A, 4),
    (changed(4, cols=0), "OPERAND", Unit.LOAD_A, 4),
    (changed(4, sram=TINY.act_depth - 28), "SRAM_RANGE", Unit.LOAD_A, 4),
    (changed(4, offset=1), "REGION_RANGE", Unit.LOAD_A, 4),
    (changed(4, offset=0xFFFF_FFFF), "REGION_RANGE", Unit.LOAD_A, 4),
    (changed(6, blocks=0), "OPERAND", Unit.EXECUTE, 7),
    (changed(7, act=TINY.act_depth - 28), "SRAM_RANGE", Unit.EXECUTE, 7),
    (changed(7, weight=TINY.weight_depth - 35), "SRAM_RANGE", Unit.EXECUTE, 7),
    (changed(7, acc=TINY.acc_half - 24), "OPERAND", Unit.EXECUTE, 7),
    (changed(11, rows=0), "OPERAND", Unit.SFU, 11),
    (changed(11, dst=TINY.act_depth - 24), "SRAM_RANGE", Unit.SFU, 11),
    (changed(11, param=TINY.param_depth), "SRAM_RANGE", Unit.SFU, 11),
    (changed(13, sram=TINY.act_depth - 24), "SRAM_RANGE", Unit.STORE, 13),
    (changed(13, offset=1), "REGION_RANGE", Unit.STORE, 13),
    (changed(7, wait=mask(Unit.STORE)), "WATCHDOG", Unit.EXECUTE, 7),
    (b"\0" * 16, "OPCODE", Unit.CONTROL, 0),
    (raw(3, make("EXECUTE", **instructions(TINY, 5)[7].values), unit=Unit.LOAD_A), "OPCODE", Unit.CONTROL, 3),
    (raw(3, instructions(TINY, 5)[3], reserved=1), "OPCODE", Unit.CONTROL, 3),
    (raw(3, instructions(TINY, 5)[3], wait=1 << 5), "OPCODE", Unit.CONTROL, 3),
    (raw(3, make("END"), signal=1), "OPCODE", Unit.CONTROL, 3),
    (raw(3, instructions(TINY, 5)[3], group=2), "OPCODE", Unit.LOAD_A, 3),
    (changed(11, memory=2), "OPCODE", Unit.SFU, 11),
    (changed(11, source=TINY.acc_depth), "SRAM_RANGE", Unit.SFU, 11),
    (changed(7, acc=TINY.acc_depth), "SRAM_RANGE", Unit.EXECUTE, 7),
    (encode_program(instructions(TINY, 5)[:-1]), "REGION_RANGE", Unit.CONTROL, 14),
]
"""(instructions or code, error code, unit, instruction index), all for `Convolution(TINY)`."""
