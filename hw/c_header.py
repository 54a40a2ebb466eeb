"""The C header: configuration, registers, instruction encoders and the program file, from their definitions.

C99, nothing but <assert.h> and <stdint.h>. Encoders assert that values fit, so NDEBUG takes the checks out.
"""

import re
import struct
from collections.abc import Iterable
from dataclasses import asdict

from systolith import isa, program, registers
from systolith.config import Config

__all__ = ["c_header"]

HEADER_FIELDS = ("magic", "version", "sections", "fingerprint", "array", "scratch_bytes", "input_bytes", "output_bytes",
                 "crc32")  # fmt: skip
SECTION_FIELDS = ("kind", "crc32", "offset", "size")
TENSOR_FIELDS = ("direction", "types", "layout", "rank", "zero_point", "scale", "region", "offset", "reserved",
                 "dims", "shape", "order")  # fmt: skip

ENUMERATIONS = (isa.LoadTarget, isa.SfuSource, isa.Reduction, isa.SecondOperand, isa.Error)
"""What values of fields and of the register `error` mean."""

PROLOGUE = """\
/* Made by `systolith generate`, for configuration "{name}" alone: see SYSTOLITH_FINGERPRINT. */
#ifndef SYSTOLITH_H
#define SYSTOLITH_H

#include <assert.h>
#include <stdint.h>
"""

ENCODER = """\
/* An instruction: in memory, `low` and then `high`, each little-endian. */
struct systolith_instruction {
    uint64_t low;
    uint64_t high;
};

/* Put an unsigned value of `bits` bits at bit `first` of an instruction that has zeros there. */
static inline void systolith_put(struct systolith_instruction *word, unsigned first, unsigned bits, uint64_t value)
{
    assert(bits == 64 || value >> bits == 0);
    if (first < 64) {
        word->low |= value << first;
        if (first + bits > 64)
            word->high |= value >> (64 - first);
    } else {
        word->high |= value << (first - 64);
    }
}

/* The same for a signed value, as two's complement. */
static inline void systolith_put_signed(struct systolith_instruction *word, unsigned first, unsigned bits,
                                        int64_t value)
{
    assert(bits < 64 && value >= -(INT64_C(1) << (bits - 1)) && value < INT64_C(1) << (bits - 1));
    systolith_put(word, first, bits, (uint64_t)value & ((UINT64_C(1) << bits) - 1));
}
"""

READERS = """\
/* Little-endian numbers at any address. */
static inline uint32_t systolith_u32(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static inline uint64_t systolith_u64(const uint8_t *bytes)
{
    return systolith_u32(bytes) | (uint64_t)systolith_u32(bytes + 4) << 32;
}
"""


def c_header(config: Config) -> str:
    """Text of `systolith.h` for a configuration."""
    parts = [
        PROLOGUE.format(name=config.name),
        _configuration(config),
        _registers(),
        _numbers(),
        ENCODER,
        *(_encoder(form) for form in (*isa.CONFIG_FORMATS.values(), *isa.FORMATS.values())),
        _program_file(),
        READERS,
        "#endif\n",
    ]
    return "\n".join(parts)


def _configuration(config: Config) -> str:
    sizes = {key: value for key, value in asdict(config).items() if key != "name"}
    return _section(
        "Configuration",
        [_define("FINGERPRINT", f"UINT64_C(0x{config.fingerprint:016x})"),
         *(_define(key.upper(), value) for key, value in sizes.items())],
    )  # fmt: skip


def _registers() -> str:
    lines = [
        _define(f"REG_{register.name.upper()}", f"0x{register.offset:03x}", f"{register.access}: {register.doc}")
        for register in registers.REGISTERS
        if not register.name.startswith("region")
    ]
    parts = ("base_lo", "base_hi", "limit_lo", "limit_hi")
    stride = registers.region_offset(1, parts[0]) - registers.region_offset(0, parts[0])
    lines += [
        f"#define SYSTOLITH_REG_REGION_{part.upper()}(r) (0x{registers.region_offset(0, part):03x} + {stride} * (r))"
        for part in parts
    ]
    names = ("CONTROL_START", "CONTROL_RESET", "STATUS_BUSY", "STATUS_DONE", "STATUS_ERROR", "IRQ_ENABLE", "IRQ_CLEAR")
    lines += [_define(name, f"0x{getattr(registers, name):x}") for name in names]
    lines += [_define("ID", f"0x{registers.MAGIC:08x}"), _define("REGIONS", registers.REGIONS)]
    return _section("Registers: byte offsets of 32-bit words", lines)


def _numbers() -> str:
    lines = [_define(f"{kind.__name__.upper()}_{item.name}", item.value)
             for kind in (isa.Opcode, isa.Unit, isa.Region) for item in kind]  # fmt: skip
    lines += [
        _define(f"{_snake(kind.__name__)}_{item.name}", item.value, item.doc) for kind in ENUMERATIONS for item in kind
    ]
    lines += [_define("INSTRUCTION_BYTES", isa.INSTRUCTION_BYTES)]
    return _section("Instructions: numbers", lines)


def _snake(name: str) -> str:
    """ "SfuSource" as SFU_SOURCE."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def _encoder(form: isa.Format) -> str:
    """A function that encodes `form`; the order of its parameters is that of the fields."""
    name = form.name.lower().replace(".", "_")
    header = {"opcode": form.opcode.value, "unit": form.unit.value, "wait": "wait", "signal": "signal"}
    parameters = ["unsigned wait", "unsigned signal"]
    parameters += [f"{'' if f.signed else 'u'}int{32 if f.bits <= 32 else 64}_t {f.name}" for f in form.fields]
    body, position = [], 0
    for f in isa.HEADER:
        if f.name in header:
            body.append(f"systolith_put(&word, {position}, {f.bits}, {header[f.name]});")
        position += f.bits
    if form.group is not None:
        body.append(f"systolith_put(&word, {position}, {isa.GROUP.bits}, {form.group});")
    position = form.start
    for f in form.fields:
        body.append(f"systolith_put{'_signed' if f.signed else ''}(&word, {position}, {f.bits}, {f.name});")
        position += f.bits
    lines = [
        f"/* {form.name}: {form.doc} */",
        f"static inline struct systolith_instruction systolith_{name}({', '.join(parameters)})",
        "{",
        "    struct systolith_instruction word = {0, 0};",
        *(f"    {line}" for line in body),
        "    return word;",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _program_file() -> str:
    lines = [
        _define("FILE_MAGIC", f'"{program.MAGIC.decode()}"'),
        _define("FILE_VERSION", program.VERSION),
        _define("FILE_ALIGN", program.ALIGN),
    ]
    for name, layout, fields in (
        ("HEADER", program.HEADER, HEADER_FIELDS),
        ("SECTION", program.SECTION, SECTION_FIELDS),
        ("TENSOR", program.TENSOR, TENSOR_FIELDS),
    ):
        lines.append(_define(f"FILE_{name}_BYTES", layout.size))
        lines += [_define(f"FILE_{name}_{field.upper()}", offset) for field, offset in _offsets(layout, fields)]
    lines += [_define(f"SECTION_{kind.name}", kind.value) for kind in program.Section]
    lines += [_define(f"LAYOUT_{layout.name}", layout.value) for layout in program.Layout]
    return _section("Program file: offsets in its header, in a section's entry and in a tensor's record", lines)


def _offsets(layout: struct.Struct, fields: Iterable[str]) -> list[tuple[str, int]]:
    """Offset of each field: in "<8sI8x4I" a group like "4I" is one field, "8x" is none, and BBBB are four."""
    offsets, position, digits = [], 0, ""
    names = iter(fields)
    for code in layout.format.lstrip("<"):
        if code.isdigit():
            digits += code
            continue
        if code != "x":
            offsets.append((next(names), position))
        position += struct.calcsize(f"<{digits}{code}")
        digits = ""
    if position != layout.size or next(names, None):
        raise AssertionError(f"{layout.format} must have the fields {list(fields)}")
    return offsets


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"/* {title}. */", *lines]) + "\n"


def _define(name: str, value: object, comment: str = "") -> str:
    return f"#define SYSTOLITH_{name} {value}" + (f" /* {comment} */" if comment else "")
