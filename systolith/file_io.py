"""Files that are read whole, and written whole or not at all."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from systolith.errors import SystolithError

__all__ = ["read_whole", "replacing", "write_whole"]

ENDLESS = 1 << 30
"""Bytes read of what is no regular file: a device need not have an end."""
CHUNK = 1 << 20
SUFFIX = 20
"""Characters of a suffix that a temporary file has as well."""


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
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from None
    with replacing(path) as temporary:
        try:
            temporary.write_bytes(data)
        except OSError as error:
            raise _cannot_write(path, error) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty file in the folder of `path`, for the block to fill; it takes the place of `path` when the block ends,
    and is gone if an exception ends it. Raises SystolithError, naming `path`, if one of that cannot be done."""
    target, temporary = _beside(path)
    try:
        yield temporary
        try:
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except OSError as error:
            raise _cannot_write(path, error) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _beside(path: Path) -> tuple[Path, Path]:
    """The file that `path` leads to, and an empty one in its folder."""
    try:
        target = Path(os.path.realpath(path))
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".systolith_", suffix=target.suffix[:SUFFIX])
        os.close(handle)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from None
    return target, Path(name)


def _cannot_write(path: Path, error: OSError | ValueError) -> SystolithError:
    """Of a ValueError: a NUL in the path."""
    reason = error.strerror if isinstance(error, OSError) else "no file has such a name"
    return SystolithError(f"{path}: cannot be written: {reason}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
