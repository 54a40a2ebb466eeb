"""Verilator's lint of the generated Verilog, with the waivers that are generated beside it. Warnings are errors.

Run: python -m systolith.sim.rtl.lint CONFIG... (presets or .toml files)
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from systolith.config import Config, load_config
from systolith.errors import SystolithError
from systolith.hw.generate import TOP, generate
from systolith.sim.rtl.toolchain import verilator

__all__ = ["lint", "main"]

NEWER_RULES = {"PROCASSINIT": (5, 38)}
"""Waived as well, and since when Verilator knows them: older ones end with an error (see waivers.vlt)."""


def lint(config: Config) -> str:
    """What Verilator has to say about the Verilog of a configuration: empty if it is clean."""
    tool = verilator()
    with tempfile.TemporaryDirectory(prefix="systolith_lint_") as folder:
        generate(config, Path(folder))
        command = [
            tool.folder / "verilator",
            "--lint-only",
            "-Wall",
            *(f"-Wno-{rule}" for rule, since in NEWER_RULES.items() if tool.number >= since),
            "--top-module",
            TOP,
            "waivers.vlt",
            f"{config.name}.v",
        ]
        result = subprocess.run(
            command, cwd=folder, env={**os.environ, **tool.environment}, capture_output=True, text=True, check=False
        )
    return (result.stderr or f"verilator ended with {result.returncode}") if result.returncode else ""


def main(names: list[str]) -> int:
    """The command; exit code 1 if Verilator warns."""
    clean = True
    for name in names:
        found = lint(load_config(name))
        print(f"verilator lint of {name}: {'warnings' if found else 'clean'}")
        print(found, end="", file=sys.stderr)
        clean &= not found
    return 0 if clean else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SystolithError as error:
        sys.exit(f"error: {error}")
