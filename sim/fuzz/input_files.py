"""Inputs (.npy, .npz): headers, members and bytes changed; what is read is what NumPy reads, and asked for."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.isa import Region
from systolith.program import Program, Tensor
from systolith.sim.fuzz.case import Case, Wrong
from systolith.sim.fuzz.damage import INTEGERS, TEXTS, damaged_bytes, few, pick
from systolith.sim.host.files import load_inputs

__all__ = ["judge", "make"]

X = Tensor("x", (2, 3), "float32", Region.INPUT, 0, (2, 3, 1, 1), (0, 1))
N = Tensor("n", (4, 2), "int8", Region.INPUT, 16, (4, 2, 1, 1), (0, 1))
VALUES: dict[str, NDArray] = {
    "x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "n": np.arange(8, dtype=np.int8).reshape(4, 2),
}  # fmt: skip
TYPES = ("<f4", ">f4", "<f8", "|i1", "|u1", "<i8", "|O", "<U4", "|S3", "|V4", "<c8", "|b1", "<M8[s]", "<f2", "x", "",
         [("a", "<f4")], ("<f4", (1000, 1000)))  # fmt: skip


def make(seed: int) -> Case:
    """One array of a .npy, or both of a .npz."""
    rng = np.random.default_rng(seed)
    single = rng.random() < 0.3
    data = npy(VALUES["x"]) if single else npz(rng, {name: npy(values) for name, values in VALUES.items()})
    suffix = ".npy" if single else ".npz"
    if rng.random() < 0.4:
        for _ in range(few(rng)):
            data = damaged_bytes(rng, data)
        return Case(data, suffix, "bytes", {"single": single})
    if single:
        return Case(_array(rng, VALUES["x"]), suffix, "header", {"single": True})
    members = {name: npy(values) for name, values in VALUES.items()}
    for _ in range(few(rng)):
        name = pick(rng, list(members))
        match int(rng.integers(6)):
            case 0 | 1:
                members[name] = _array(rng, VALUES.get(name, VALUES["x"]))
            case 2:
                members[str(pick(rng, ["y", "labels", *TEXTS])).replace("\0", "0")] = members[name]
            case 3:
                members["bomb"] = npy(np.zeros(1 << 20, np.int8))
            case 4:
                members[name] = damaged_bytes(rng, members[name])
            case _ if len(members) > 1:
                del members[name]
    data = npz(rng, members)
    return Case(_directory(rng, data) if rng.random() < 0.3 else data, suffix, "members", {"single": False})


def judge(case: Case, folder: Path) -> str:
    """Load it; compare with NumPy."""
    path = folder / f"case{case.suffix}"
    path.write_bytes(case.data)
    wanted = (X,) if case.facts["single"] else (X, N)
    found = load_inputs(path, Program(0, 4, b"", b"", wanted, ()))
    arrays = np.load(path)
    for tensor in wanted:
        values = found[tensor.name]
        expected = arrays if case.facts["single"] else arrays[tensor.name]
        if (values.shape, values.dtype) != (tensor.shape, np.dtype(tensor.dtype)):
            raise Wrong(f"'{tensor.name}' was read as {values.dtype} {values.shape}")
        if values.tobytes() != expected.tobytes():
            raise Wrong(f"'{tensor.name}' is {values}, not {expected} as NumPy reads it")
        if case.change == "bytes" and not case.facts["single"] and not np.array_equal(values, VALUES[tensor.name]):
            raise Wrong(f"'{tensor.name}' is {values} though its checksum is another one's")
    return "right"


def npy(values: NDArray, **changes) -> bytes:
    """A .npy file; its header may say something else."""
    file = io.BytesIO()
    header = {"descr": values.dtype.str, "fortran_order": False, "shape": values.shape} | changes
    text = f"{header!r}\n".encode("latin1", "replace")
    file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) & 0xFFFF) + text + values.tobytes())
    return file.getvalue()


def npz(rng: np.random.Generator, members: dict[str, bytes]) -> bytes:
    """A .npz file of these."""
    file = io.BytesIO()
    methods = [zipfile.ZIP_DEFLATED] * 5 + [zipfile.ZIP_STORED] * 5 + [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(file, "w", pick(rng, methods)) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = archive.compression
            archive.writestr(info, content)
    return file.getvalue()


def _array(rng: np.random.Generator, values: NDArray) -> bytes:
    """An array whose header lies."""
    match int(rng.integers(5)):
        case 0:
            return npy(values, descr=pick(rng, TYPES))
        case 1:
            return npy(values, fortran_order=pick(rng, [True, 1, None, "a"]))
        case 2:
            shape = list(values.shape)
            shape[int(rng.integers(len(shape)))] = pick(rng, INTEGERS)
            return npy(values, shape=tuple(shape))
        case 3:
            shape = tuple(int(pick(rng, INTEGERS)) for _ in range(int(rng.integers(0, 70))))
            return npy(
                values, shape=pick(rng, [shape, values.shape[::-1], list(values.shape), True, "(2, 3)", (2.0, 3)])
            )
        case _:
            return npy(values, **{str(pick(rng, TEXTS)): pick(rng, INTEGERS)})


def _directory(rng: np.random.Generator, data: bytes) -> bytes:
    """A number of an entry in the archive's directory changed: method, checksum, sizes, or where the member is."""
    place = data.rfind(b"PK\x01\x02") if rng.random() < 0.5 else data.find(b"PK\x01\x02")
    offset, size = pick(rng, [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)])
    number = int(pick(rng, INTEGERS)) & (1 << 8 * size) - 1
    changed = bytearray(data)
    changed[place + offset : place + offset + size] = number.to_bytes(size, "little")
    return bytes(changed)
