"""Pages: docs/ is what the definitions make, the worked example prints what it says, and paths in pages exist."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from systolith import isa, registers
from systolith.compiler.show import LEVELS
from systolith.docs_pages import pages
from tests.support.played_page import played

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for folder in (".", "docs", "hw", "compiler", "sim", "fpga", "benchmarks")
    for page in (ROOT / folder).glob("*.md")
)
NOT_IN_THE_REPOSITORY = {"~", "build"}
"""First parts of paths that come to be when the tools run."""


@pytest.mark.parametrize("name", pages())
def test_page_is_up_to_date(name):
    assert (DOCS / name).read_text() == pages()[name], f"docs/{name} differs from its definition: run 'make docs'"


def test_pages_are_complete():
    text = pages()["isa.md"]
    for form in (*isa.FORMATS.values(), *isa.CONFIG_FORMATS.values()):
        assert f"## {form.name}\n" in text
        section = text.split(f"## {form.name}\n")[1].split("\n## ")[0]
        assert all(f"| `{f.name}` | {f.low} to {f.high} | {f.doc}" in section for f in form.fields)
        meanings = [f"{item.value} {item.doc}" for f in form.fields for item in f.values or ()]
        assert all(meaning in section for meaning in meanings)
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


def test_the_example_prints_what_the_page_says(tmp_path):
    """Every output in the worked example is what the tools print. `python -m tests.systolith.test_docs` writes them."""
    page = (DOCS / "architecture.md").read_text()
    assert page.count("```console\n$ systolith ") >= len(LEVELS)
    assert played(page, tmp_path) == page


def test_levels_are_in_the_page():
    text = (DOCS / "architecture.md").read_text()
    assert all(f"--emit {level}" in text for level in LEVELS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_exist(page):
    """Each path in backticks that has a slash, and each link to a file, from the page's folder or from the root."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = [path for path in re.findall(r"`([\w.{},*/-]+)`", text) if "/" in path.strip("/") or path.endswith("/")]
    linked = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for path in [*named, *filter(None, linked)]:
        if path.partition("/")[0] not in NOT_IN_THE_REPOSITORY:
            assert any(next(base.glob(path), None) for base in (page.parent, ROOT)), f"{page.name}: no file {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_headings_exist(page):
    """Each link to a heading, as GitHub makes anchors of headings."""
    for file, anchor in re.findall(r"\]\(([^)\s:#]*)#([^)\s]+)\)", page.read_text()):
        target = (page.parent / file if file else page).read_text()
        headings = re.findall(r"^#+ (.*)$", target, flags=re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert anchor in anchors, f"{page.name}: no heading {file}#{anchor}"


def test_every_folder_has_a_heading():
    """docs/architecture.md has one heading for each folder of hw/, compiler/ and sim/, and they have READMEs."""
    text = (DOCS / "architecture.md").read_text()
    for top in ("hw", "compiler", "sim"):
        readme = (ROOT / top / "README.md").read_text()
        for init in (ROOT / top).glob("*/__init__.py"):
            folder = init.parent.relative_to(ROOT).as_posix()
            assert f"\n### {folder}/" in text, f"docs/architecture.md has no heading for {folder}/"
            assert f"| `{init.parent.name}/` |" in readme, f"{top}/README.md does not list {init.parent.name}/"


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        text = played((DOCS / "architecture.md").read_text(), Path(folder))
    (DOCS / "architecture.md").write_text(text)
