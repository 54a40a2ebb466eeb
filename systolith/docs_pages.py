"""Reference pages made from the definitions: docs/isa.md from isa/, docs/registers.md from registers.py.

`pages` maps file names to their text; `systolith docs` writes them, and a test holds the written ones equal.
"""

from collections.abc import Iterable, Sequence

from systolith import isa, registers
from systolith.isa import CONFIG_FORMATS, FORMATS, GROUP, HEADER, Format

__all__ = ["isa_page", "pages", "registers_page"]

_MADE = "<!-- Made by `systolith docs` from systolith/{}; edit that. -->\n"


def pages() -> dict[str, str]:
    """Text of each generated page by its file name in docs/."""
    return {"isa.md": isa_page(), "registers.md": registers_page()}


def isa_page() -> str:
    """The instruction set as Markdown."""
    formats = [*CONFIG_FORMATS.values(), *FORMATS.values()]
    return "\n".join(
        [
            _MADE.format("isa/"),
            "# Instructions",
            "",
            f"{isa.INSTRUCTION_BYTES} bytes each, little-endian; bit 0 is the lowest bit of byte 0. Signed fields are "
            "two's complement. Bits that no field names are zero.",
            "",
            "Units run their instructions in order and apart from each other. An instruction starts after taking one "
            "token from each unit in `wait`, and gives one token to each unit in `signal` after its last access.",
            "",
            "## Header of every instruction",
            "",
            *_fields(HEADER, 0),
            "",
            *_table(("opcode", "name"), ((str(op.value), f"`{op.name}`") for op in isa.Opcode)),
            "",
            *_table(("unit", "name"), ((str(unit.value), f"`{unit.name}`") for unit in isa.Unit)),
            "",
            *_table(("region", "by convention"), ((str(region.value), f"`{region.name}`") for region in isa.Region)),
            "",
            *[line for form in formats for line in _format(form)],
            "## Errors",
            "",
            "The first error stops the accelerator; the registers `error` and `error_instruction` name it.",
            "",
            *isa.ERROR_ORDER,
            "",
            *_table(("code", "name", "meaning"), ((str(e.value), f"`{e.name}`", e.doc) for e in isa.Error)),
            "",
        ]
    )


def registers_page() -> str:
    """The register map as Markdown; the registers of a region are shown once, for region r."""
    rows = [
        (f"0x{r.offset:03x}", f"`{r.name}`", r.access, r.doc)
        for r in registers.REGISTERS
        if not r.name.startswith("region")
    ]
    rows += [
        (f"0x{r.offset:03x} + 16 r", f"`{r.name.replace('region0', 'region<r>')}`", r.access, r.doc)
        for r in registers.REGISTERS
        if r.name.startswith("region0")
    ]
    return "\n".join(
        [
            _MADE.format("registers.py"),
            "# Registers",
            "",
            f"32-bit registers on AXI4-Lite, {registers.ADDRESS_BITS} address bits. Counters have 64 bits, low word "
            f"first; they run while busy and are cleared by a start. Regions are r = 0 to {registers.REGIONS - 1}.",
            "",
            *_table(("offset", "name", "access", "meaning"), rows),
            "",
            "## Resets",
            "",
            *_table(("reset", "when", "what it does and needs"), registers.RESETS),
            "",
            "SRAMs keep what they hold in both, but a program must not rely on it.",
            "",
        ]
    )


def _format(form: Format) -> list[str]:
    group = f", group {form.group}" if form.group is not None else ""
    where = f"Opcode {form.opcode.value}, unit {form.unit.name} ({form.unit.value}){group}"
    lines = [f"## {form.name}", "", f"{where}. {form.doc}", ""]
    if form.group is not None:
        lines += _fields((GROUP, *form.fields), isa.PAYLOAD_START)
    elif form.fields:
        lines += _fields(form.fields, form.start)
    return [*lines, ""] if lines[-1] else lines


def _fields(fields: Iterable[isa.Field], position: int) -> list[str]:
    rows = []
    for f in fields:
        last = position + f.bits - 1
        rows.append(
            (f"{last}:{position}" if f.bits > 1 else str(last), f"`{f.name}`", f"{f.low} to {f.high}", _meaning(f))
        )
        position += f.bits
    return _table(("bits", "field", "values", "meaning"), rows)


def _meaning(field: isa.Field) -> str:
    values = ", ".join(f"{item.value} {item.doc}" for item in field.values or ())
    return f"{field.doc}: {values}" if values else field.doc


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(titles), _row(["---"] * len(titles)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
