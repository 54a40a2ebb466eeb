"""Instructions: made by name, encoded to 16 bytes and decoded from them, and shown as text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from systolith.errors import SystolithError
from systolith.isa.fields import GROUP, HEADER, INSTRUCTION_BYTES, PAYLOAD_START, Field, Format, Opcode, Unit
from systolith.isa.formats import CONFIG_FORMATS, FORMATS, form

__all__ = ["Instruction", "decode", "decode_program", "disassemble", "encode", "encode_program", "make"]


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction: `form` names the fields of `values`; `wait` and `signal` are masks over units."""

    form: Format
    unit: Unit
    values: Mapping[str, int] = field(default_factory=dict)
    wait: int = 0
    signal: int = 0

    def __getitem__(self, name: str) -> int:
        return self.values[name]


def make(name: str, wait: int = 0, signal: int = 0, **values: int) -> Instruction:
    """An instruction by format name ("EXECUTE", "LOAD.W", "CONFIG.SFU.output" ...); every field must be given."""
    made = form(name)
    expected = [f.name for f in made.fields]
    if set(values) != set(expected):
        raise SystolithError(f"Instruction {name} must have fields {expected}, not {sorted(values)}")
    return Instruction(made, made.unit, values, wait, signal)


def encode(instruction: Instruction) -> bytes:
    """The 16 bytes. Raises SystolithError for a value that does not fit its field."""
    form = instruction.form
    header = {
        "opcode": form.opcode,
        "unit": instruction.unit,
        "wait": instruction.wait,
        "signal": instruction.signal,
        "reserved": 0,
    }
    word, position = _pack(form.name, HEADER, header, 0)
    if form.group is not None:
        word |= form.group << position
    payload, _ = _pack(form.name, form.fields, instruction.values, form.start)
    return (word | payload).to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes, index: int = 0) -> Instruction:
    """The instruction in 16 bytes. Raises SystolithError naming `index` if it is undefined or unused bits are set."""
    if len(data) != INSTRUCTION_BYTES:
        raise SystolithError(f"Instruction {index} must have {INSTRUCTION_BYTES} bytes, not {len(data)}")
    word = int.from_bytes(data, "little")
    header = _unpack(HEADER, word, 0)
    form = _format_of(header, word >> PAYLOAD_START & (1 << GROUP.bits) - 1, index)
    values = _unpack(form.fields, word, form.start)
    instruction = Instruction(form, Unit(header["unit"]), values, header["wait"], header["signal"])
    if encode(instruction) != data:
        raise SystolithError(f"Instruction {index} ({form.name}) must have zeros in its unused bits, not {data.hex()}")
    return instruction


def encode_program(instructions: Iterable[Instruction]) -> bytes:
    """All instructions, one after the other."""
    return b"".join(encode(instruction) for instruction in instructions)


def decode_program(code: bytes) -> Iterator[Instruction]:
    """The instructions in `code`, whose length must be a multiple of 16 bytes."""
    if len(code) % INSTRUCTION_BYTES:
        raise SystolithError(f"Code must be a multiple of {INSTRUCTION_BYTES} bytes, not {len(code)}")
    for index in range(len(code) // INSTRUCTION_BYTES):
        start = index * INSTRUCTION_BYTES
        yield decode(code[start : start + INSTRUCTION_BYTES], index)


def disassemble(instruction: Instruction) -> str:
    """One line of text: format, fields, and the units waited for and signalled."""
    text = " ".join([f"{instruction.form.name:<22}", *(f"{k}={v}" for k, v in instruction.values.items())])
    if instruction.wait:
        text += f" wait={_mask_text(instruction.wait)}"
    if instruction.signal:
        text += f" signal={_mask_text(instruction.signal)}"
    return text.rstrip()


def _mask_text(mask: int) -> str:
    return ",".join(unit.name.lower() for unit in Unit if mask >> unit & 1)


def _pack(name: str, fields: Iterable[Field], values: Mapping[str, int], position: int) -> tuple[int, int]:
    word = 0
    for f in fields:
        value = int(values[f.name])
        if not f.low <= value <= f.high:
            raise SystolithError(f"Field '{f.name}' of {name} must be from {f.low} to {f.high}, not {value}")
        word |= (value & (1 << f.bits) - 1) << position
        position += f.bits
    return word, position


def _unpack(fields: Iterable[Field], word: int, position: int) -> dict[str, int]:
    values = {}
    for f in fields:
        value = word >> position & (1 << f.bits) - 1
        values[f.name] = value - (1 << f.bits) if f.signed and value >> f.bits - 1 else value
        position += f.bits
    return values


def _format_of(header: Mapping[str, int], group: int, index: int) -> Format:
    try:
        opcode, unit = Opcode(header["opcode"]), Unit(header["unit"])
        return CONFIG_FORMATS[unit, group] if opcode == Opcode.CONFIG else FORMATS[opcode, unit]
    except (ValueError, KeyError):
        raise SystolithError(
            f"Instruction {index} must be a defined opcode of its unit, not opcode {header['opcode']}, "
            f"unit {header['unit']}, group {group}"
        ) from None
