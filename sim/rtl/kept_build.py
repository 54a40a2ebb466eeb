"""Builds that are kept in a folder each, made once, by one process at a time."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from systolith.errors import SystolithError
from systolith.sim.rtl.toolchain import require_tools

__all__ = ["build_failure", "kept_build"]

ROOM = 1 << 28
"""Free bytes below which a failed build may have failed for want of them."""


def kept_build(folder: Path, finished: str, make: Callable[[Path], None]) -> None:
    """Call `make` with the folder, which is empty then, unless its file `finished` is there: the last one it makes.

    Raises SystolithError where a tool is missing or files cannot be written.
    """
    try:
        with FileLock(f"{folder}.lock"):
            if not (folder / finished).exists():
                require_tools()
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
    except OSError as error:
        raise SystolithError(
            f"{folder}: the simulator cannot be built there: {error.strerror}; set SYSTOLITH_CACHE to another folder"
        ) from None
    with contextlib.suppress(OSError):  # Another user's.
        os.utime(folder / finished)


def build_failure(tool: str, log: Path) -> SystolithError:
    """What to raise when a tool has failed, by its log: a file in the folder of the build."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    reason = next((f": {line.strip()[:200]}" for line in lines if "rror" in line or "cannot" in line), "")
    free = shutil.disk_usage(log.parent).free
    room = f"; only {free >> 20} MiB are free there: set SYSTOLITH_CACHE to a folder with more" if free < ROOM else ""
    return SystolithError(f"Building the simulator failed in {tool}{reason}; see {log}{room}")
