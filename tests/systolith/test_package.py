"""What an installed wheel holds: every folder of Python files that the repository has beside its tests."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("systolith", "hw", "compiler", "sim", "fpga", "benchmarks", "examples")


def test_every_package_folder_is_listed():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for part in PARTS for path in (ROOT / part).rglob("*.py")}
    names = {str(folder).replace("/", ".") for folder in folders}
    assert set(tools["packages"]) == {
        "systolith" if n == "systolith" else f"systolith.{n.removeprefix('systolith.')}" for n in names
    }
