"""Files that are read whole, and written whole or not at all."""

import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from systolith.errors import SystolithError

__all__ = ["read_whole", "write_whole"]

ENDLESS = 1 << 30
"""Bytes read of what is no regular file: a device need not have an end."""
CHUNK = 1 << 20


def read_whole(path: Path, largest: int | None = None) -> bytes:
    """The bytes of a file. Raises SystolithError, naming it, if it cannot be read, or has more than `largest` bytes."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            regular = stat.S_ISREG(status.st_mode)
            limit = largest if largest is not None else status.st_size if regular else ENDLESS
            data = file.read(limit + 1) if regular else _chunks(file, limit)
    except OSError as error:
        raise SystolithError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # A NUL.
        raise SystolithError(f"{str(path)!r}: cannot be read: no file has such a name") from None
    if len(data) > limit:
        raise SystolithError(f"{path}: must have at most {limit} bytes")
    return data


def _chunks(file: BinaryIO, limit: int) -> bytes:
    """What a pipe or a device gives, to its end or one chunk beyond the limit."""
    data = bytearray()
    while len(data) <= limit and (more := file.read(CHUNK)):
        data += more
    return bytes(data)


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data` atomically, so that readers see the old file or the new one. What a link leads to is
    replaced, not the link; what is no regular file, as a device or a pipe, is never replaced, but written to."""
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        target = Path(os.path.realpath(path))
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.chmod(temporary, 0o666 & ~_umask())
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise SystolithError(f"{path}: cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
