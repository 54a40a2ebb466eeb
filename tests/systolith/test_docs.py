"""The reference pages in docs/ are those that the definitions make."""

from pathlib import Path

import pytest

from systolith import isa, registers
from systolith.docs_pages import pages

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", pages())
def test_page_is_up_to_date(name):
    assert (DOCS / name).read_text() == pages()[name], f"docs/{name} differs from its definition: run 'make docs'"


def test_pages_are_complete():
    text = pages()["isa.md"]
    for form in (*isa.FORMATS.values(), *isa.CONFIG_FORMATS.values()):
        assert f"## {form.name}\n" in text
        section = text.split(f"## {form.name}\n")[1].split("\n## ")[0]
        assert all(f"| `{f.name}` | {f.low} to {f.high} | {f.doc} |" in section for f in form.fields)
    assert all(f"| {error.value} | `{error.name}` |" in text for error in isa.Error)
    for name in (r.name for r in registers.REGISTERS if not r.name.startswith("region")):
        assert f"| `{name}` |" in pages()["registers.md"]


def test_positions_are_those_of_the_encoder():
    """Read from the table of LOAD.W: its offset lies where encoding a single bit puts it."""
    section = pages()["isa.md"].split("## LOAD.W\n")[1].split("\n## ")[0]
    bits = next(line for line in section.splitlines() if "`offset`" in line).split("|")[1].strip()
    word = isa.encode(isa.make("LOAD.W", region=0, offset=1, sram=0, words=0, target=0))
    header = isa.encode(isa.make("LOAD.W", region=0, offset=0, sram=0, words=0, target=0))
    first = (int.from_bytes(word, "little") ^ int.from_bytes(header, "little")).bit_length() - 1
    assert bits == f"{first + 31}:{first}"
