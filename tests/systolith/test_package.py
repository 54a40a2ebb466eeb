"""What an installed wheel holds: the folders of Python files beside the tests, and their data files."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("systolith", "hw", "compiler", "sim", "fpga", "benchmarks", "examples")
ENTRIES = [path for part in PARTS for path in (ROOT / part).rglob("*") if "__pycache__" not in path.parts]
FILES = [path for path in ENTRIES if path.is_file()]


@pytest.mark.parametrize("part", PARTS[1:])
def test_the_package_has_a_link_to_each_folder(part: str):
    link = ROOT / "systolith" / part
    assert link.is_symlink() and link.readlink() == Path("..") / part


def test_every_folder_of_modules_is_a_package():
    folders = {parent for path in FILES if path.suffix == ".py" for parent in path.relative_to(ROOT).parents}
    assert [str(folder) for folder in folders - {Path()} if not (ROOT / folder / "__init__.py").exists()] == []


def test_every_data_file_is_listed_by_its_suffix():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    listed = {Path(pattern).suffix for pattern in tools["package-data"]["systolith"]}
    assert {path.suffix for path in FILES} == {*listed, ".py", ".md"}
