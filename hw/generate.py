"""Generator: Verilog, configuration, register map, C header and lint waivers, in one folder."""

import errno
import tempfile
from collections.abc import Mapping
from pathlib import Path

from systolith.config import Config
from systolith.docs_pages import registers_page
from systolith.errors import SystolithError
from systolith.hw.c_header import c_header
from systolith.hw.lib.verilog import WAIVERS, emit
from systolith.hw.top import Accelerator

__all__ = ["TOP", "generate"]

TOP = "systolith"
"""Name of the top module, whatever the configuration's."""


def generate(config: Config, folder: Path) -> list[Path]:
    """Write Verilog, configuration, register map, C header and lint waivers. Returns the paths.

    Raises SystolithError if the folder cannot be made or written. No file is replaced before all of them are
    written.
    """
    texts = {
        f"{config.name}.v": _banner(config) + emit(Accelerator(config), TOP),
        f"{config.name}.toml": config.to_toml(),
        f"{config.name}_registers.md": registers_page().split("\n", 1)[1].lstrip(),
        "systolith.h": c_header(config),
        "waivers.vlt": WAIVERS,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _replace_all(folder, texts)
    except OSError as error:
        raise SystolithError(
            f"{error.filename2 or error.filename or folder}: cannot be written: {error.strerror}"
        ) from None


def _replace_all(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write all files beside their places, and only then move them there."""
    paths = [folder / name for name in texts]
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", str(path))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".generate_") as staging:
        for name, text in texts.items():
            (Path(staging) / name).write_text(text, encoding="utf-8")
        for path in paths:
            (Path(staging) / path.name).replace(path)
    return paths


def _banner(config: Config) -> str:
    return f"// Systolith, configuration {config.name}, fingerprint {config.fingerprint:016x}. Top module: {TOP}.\n"
