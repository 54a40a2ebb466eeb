"""Paths for make and shells, which take names apart at blanks, quotes and more: those that they cannot take get links
and folders with plain names, which last as long as this process."""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from systolith.errors import SystolithError

__all__ = ["is_plain", "plain_folder", "plain_link"]

PLAIN = re.compile(r"[A-Za-z0-9_./+@-]+")


def is_plain(path: Path | str) -> bool:
    """Whether make and shells take the path as it is."""
    return PLAIN.fullmatch(str(path)) is not None


@cache
def plain_link(target: Path) -> Path:
    """The path itself if it is plain, else a link to it that is."""
    if is_plain(target):
        return target
    link = _new_folder() / "link"
    link.symlink_to(target)
    return link


@contextmanager
def plain_folder(folder: Path) -> Iterator[Path]:
    """The folder itself if its path is plain, else an empty one that is; what is in it at the end goes to `folder`."""
    if is_plain(folder):
        yield folder
        return
    work = _new_folder()
    try:
        yield work
    finally:
        shutil.copytree(work, folder, dirs_exist_ok=True)
        shutil.rmtree(work)


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(dir=_scratch()))


@cache
def _scratch() -> Path:
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if is_plain(place) and os.access(place, os.W_OK | os.X_OK):
            folder = Path(tempfile.mkdtemp(prefix="systolith_", dir=place))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            return folder
    raise SystolithError(
        f"Temporary files must go to a folder that make can name (letters, digits, _ . / + @ -), not "
        f"'{tempfile.gettempdir()}': set TMPDIR to one"
    )
