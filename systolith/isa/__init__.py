"""The instruction set: the only definition. Encoder, decoder, disassembler, hardware and documents derive from it.

`widths`: bits of the fields that several formats have; `fields`: numbers, and what a format is made of; `formats`: the
instructions; `coding`: instructions to bytes and back.

An instruction is 128 bits, stored little-endian. Fields are packed from bit 0 up in the order of `HEADER` followed by
the order of the format. Units run their instructions in order and apart from each other; `wait` and `signal` are masks
over units: an instruction starts after taking one token from each unit in `wait`, and gives one token to each unit in
`signal` when its last access is done.
"""

from systolith.isa.coding import Instruction, decode, decode_program, disassemble, encode, encode_program, make
from systolith.isa.fields import (
    ERROR_ORDER,
    GROUP,
    HEADER,
    INSTRUCTION_BYTES,
    PAYLOAD_START,
    QUEUED,
    UNITS,
    Error,
    Field,
    Format,
    LoadTarget,
    Opcode,
    Reduction,
    Region,
    SecondOperand,
    SfuSource,
    Unit,
)
from systolith.isa.formats import CONFIG_FORMATS, FORMATS, form
from systolith.isa.widths import (
    ACC_BITS,
    ADDRESS_BITS,
    COUNT_BITS,
    EXTENT_BITS,
    OFFSET_BITS,
    PARAM_BITS,
    REGION_BITS,
    STEP_BITS,
    VALUE_BITS,
)

__all__ = [
    "ACC_BITS", "ADDRESS_BITS", "CONFIG_FORMATS", "COUNT_BITS", "ERROR_ORDER", "EXTENT_BITS", "FORMATS", "GROUP",
    "HEADER", "INSTRUCTION_BYTES", "OFFSET_BITS", "PARAM_BITS", "PAYLOAD_START", "QUEUED", "REGION_BITS", "STEP_BITS",
    "UNITS", "VALUE_BITS", "Error", "Field", "Format", "Instruction", "LoadTarget", "Opcode", "Reduction", "Region",
    "SecondOperand", "SfuSource", "Unit", "decode", "decode_program", "disassemble", "encode", "encode_program",
    "form", "make",
]  # fmt: skip
