"""Arrays of a .npy or .npz file from anybody: looked at by name, shape, type and size, unpacked only when asked for.

A .npz is a .zip of .npy files, each of which has a header, and can be a million times larger than the file.
"""

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from systolith.errors import SystolithError
from systolith.file_io import read_whole

__all__ = ["LARGEST", "NUMBERS", "STRINGS", "ArrayFile", "Header"]

LARGEST = 1 << 29
"""Bytes of all arrays that are asked for together; more only for a file of at least a `RATIO`-th of them."""
RATIO = 4
"""How far samples that somebody measured may be compressed."""
UNREAL = 1 << 48
"""Bytes that no array has."""
NUMBERS, STRINGS = "biuf", "U"
"""NumPy's kinds."""
ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")
"""How archives begin, with members and without; to others anything may be prefixed."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes; others take memory as their headers say."""


@dataclass(frozen=True)
class Header:
    """What a .npy file says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def stand_in(self) -> NDArray:
        """An array of this shape and type, all of whose elements are one zero."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)


class ArrayFile:
    """The arrays in a file: `headers` by name, or `single` if it is a .npy, whose array has no name.

    Raises SystolithError, which names the file, for what is damaged, not of NumPy's `kinds`, or there twice.
    """

    def __init__(self, path: Path, kinds: str = NUMBERS):
        self.path, self.kinds, content = path, kinds, read_whole(path)
        self.bytes = len(content)
        self._file = io.BytesIO(content)
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.single: Header | None = None
        self.headers: dict[str, Header] = {}
        if content[:6] == np.lib.format.MAGIC_PREFIX:
            self.single = self._header(self._file, self.bytes)
        else:
            self._archive = self._opened(content)
            for info in self._archive.infolist():
                self._add(info)

    def read(self, names: list[str]) -> dict[str, NDArray]:
        """The arrays of these names; a .npy has the only one."""
        headers = [self.headers[name] for name in names] if self.single is None else [self.single]
        size, most = sum(header.size for header in headers), max(LARGEST, RATIO * self.bytes)
        if size > most:
            raise SystolithError(f"{self.path}: arrays of a file of {self.bytes} bytes must be at most {most} bytes "
                                 f"together, not {size}")  # fmt: skip
        try:
            return {name: self._values(name) for name in names}
        except Exception:  # What NumPy and zipfile raise for damaged files has no common base class.
            raise self._damaged() from None

    def _values(self, name: str) -> NDArray:
        if self.single is not None:
            self._file.seek(0)
            return np.lib.format.read_array(self._file, allow_pickle=False)
        with self._archive.open(self._members[name]) as member:
            values = np.lib.format.read_array(member, allow_pickle=False)
            if member.read(1):  # It is now that the checksum is compared.
                raise ValueError
            return values

    def _opened(self, content: bytes) -> zipfile.ZipFile:
        if content[:4] not in ARCHIVES:
            raise self._damaged()
        try:
            return zipfile.ZipFile(self._file)
        except Exception:
            raise self._damaged() from None

    def _add(self, info: zipfile.ZipInfo) -> None:
        """Note a member of the archive."""
        if not info.filename.endswith(".npy") or info.compress_type not in METHODS:
            raise SystolithError(f"{self.path}: members must be .npy files as NumPy writes them, not {info.filename!r}")
        name = info.filename.removesuffix(".npy")
        if name in self.headers:
            raise SystolithError(f"{self.path}: arrays must have names of their own; '{name}' is there twice")
        try:
            with self._archive.open(info) as member:
                self.headers[name] = self._header(member, info.file_size)
        except SystolithError:
            raise
        except Exception:
            raise self._damaged() from None
        self._members[name] = info

    def _header(self, file: IO[bytes], size: int) -> Header:
        """The header of a .npy file of `size` bytes."""
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, _, dtype = read(file)
        except Exception:
            raise self._damaged() from None
        header = Header(tuple(map(int, shape)), dtype)
        good = dtype.kind in self.kinds and all(0 <= length < UNREAL for length in header.shape)
        if not good or not header.size == size - file.tell() < UNREAL:
            raise self._damaged()
        return header

    def _damaged(self) -> SystolithError:
        return SystolithError(f"{self.path}: must be a .npy or .npz file of numbers; it is none, or damaged")
