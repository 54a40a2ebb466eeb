"""The instruction set: the only definition. Encoder, decoder, disassembler, hardware and documents derive from it.

`fields`: numbers, and what a format is made of; `formats`: the instructions; `coding`: instructions to bytes and back.

An instruction is 128 bits, stored little-endian. Fields are packed from bit 0 up in the order of `HEADER` followed by
the order of the format. Units run their instructions in order and apart from each other; `wait` and `signal` are masks
over units: an instruction starts after taking one token from each unit in `wait`, and gives one token to each unit in
`signal` when its last access is done.
"""

from systolith.isa.coding import Instruction, decode, decode_program, disassemble, encode, encode_program, make
from systolith.isa.fields import (
    ERROR_ORDER,
    ERRORS,
    GROUP,
    HEADER,
    INSTRUCTION_BYTES,
    PAYLOAD_START,
    Field,
    Format,
    Opcode,
    Region,
    Unit,
)
from systolith.isa.formats import CONFIG_FORMATS, FORMATS

__all__ = [
    "CONFIG_FORMATS",
    "ERRORS",
    "ERROR_ORDER",
    "FORMATS",
    "GROUP",
    "HEADER",
    "INSTRUCTION_BYTES",
    "PAYLOAD_START",
    "Field",
    "Format",
    "Instruction",
    "Opcode",
    "Region",
    "Unit",
    "decode",
    "decode_program",
    "disassemble",
    "encode",
    "encode_program",
    "make",
]
