"""Files that a command will write, looked at before its work begins."""

import os
from collections.abc import Iterable
from pathlib import Path

from systolith.errors import SystolithError

__all__ = ["check_outputs"]


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Raises SystolithError if one of `outputs` could not be written, or is one of `inputs` or another output."""
    taken = {os.path.realpath(path): "the command reads" for path in inputs if path is not None}
    for path in filter(None, outputs):
        try:
            _check_place(path)
        except OSError as error:  # A name that is too long.
            raise SystolithError(f"{path}: cannot be written: {error.strerror}") from None
        if path.exists() and not path.is_file():
            continue  # A device or a pipe: it may be there for several outputs.
        if why := taken.get(os.path.realpath(path)):
            raise SystolithError(f"{path}: must be another file than one that {why}")
        taken[os.path.realpath(path)] = "the command writes"


def _check_place(path: Path) -> None:
    """Raises SystolithError, or OSError, unless there can be a file."""
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        raise SystolithError(f"{path}: cannot be written: it must be a file, not a folder")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise SystolithError(f"{path}: cannot be written: '{folder}' must be a folder that can be written")
    if path.exists() and not os.access(path, os.W_OK):
        raise SystolithError(f"{path}: cannot be written: it is there, and may not be changed")
