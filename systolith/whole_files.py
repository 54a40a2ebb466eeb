"""Files that are read whole, and written whole or not at all."""

import os
import tempfile
from pathlib import Path

from systolith.errors import SystolithError

__all__ = ["read_whole", "write_whole"]


def read_whole(path: Path) -> bytes:
    """The bytes of a file. Raises SystolithError, naming it, if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SystolithError(f"{path}: cannot be read: {error.strerror}") from None


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
