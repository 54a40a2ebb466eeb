"""Array files of strangers: what they say of themselves is looked at before anything is unpacked."""

import io
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from systolith import SystolithError
from systolith.isa import Region
from systolith.program import Program, Tensor
from systolith.sim.host import array_files
from systolith.sim.host.array_files import ArrayFile
from systolith.sim.host.files import load_arrays, load_inputs

INPUT = Tensor("x", (2, 3), "float32", Region.INPUT, 0, (2, 3, 1, 1), (0, 1))
PROGRAM = Program(0, 4, b"", b"", (INPUT,), ())
X = np.arange(6, dtype=np.float32).reshape(2, 3)
DAMAGED = "must be a .npy or .npz file of numbers; it is none, or damaged"


def npy(values: np.ndarray, **changes) -> bytes:
    """A .npy file whose header says something else."""
    header = {"descr": values.dtype.str, "fortran_order": False, "shape": values.shape} | changes
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + values.tobytes()


def npz(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def zeros(count: int) -> bytes:
    """A .npy file of float32 zeros."""
    return npy(np.zeros(0, np.float32), shape=(count,)) + bytes(4 * count)


def test_what_numpy_writes(tmp_path):
    np.savez_compressed(tmp_path / "c.npz", x=X, y=np.asfortranarray(X.astype(np.int8)), z=np.float64(3))
    found = load_arrays(tmp_path / "c.npz", ["x", "y", "z"])
    assert {name: (a.dtype, a.shape) for name, a in found.items()} == {
        "x": (np.float32, (2, 3)), "y": (np.int8, (2, 3)), "z": (np.float64, ())}  # fmt: skip
    assert np.array_equal(found["x"], X) and np.array_equal(found["y"], X)
    np.save(tmp_path / "x.npy", X)
    assert np.array_equal(load_inputs(tmp_path / "x.npy", PROGRAM)["x"], X)
    assert np.array_equal(load_arrays(tmp_path / "x.npy", ["a", "b"], single="b")["b"], X)
    with pytest.raises(SystolithError, match=r"x\.npy: must be a \.npz file with arrays a, b, not one array"):
        load_arrays(tmp_path / "x.npy", ["a", "b"])


def test_only_what_is_asked_for_is_unpacked(tmp_path):
    """A member of 32 MB in a file of less than one, whose bytes are damaged as well."""
    path = npz(tmp_path / "bomb.npz", {"x.npy": npy(X), "bomb.npy": zeros(8 << 20)})
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    found = load_arrays(path, ["x"])
    with pytest.raises(SystolithError, match=r"bomb\.npz: Inputs must be 'x'; there is no 'bomb'"):
        load_inputs(path, PROGRAM)
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()
    assert np.array_equal(found["x"], X)
    assert found["bomb"].shape == (8 << 20,) and found["bomb"].strides == (0,)


def test_an_input_of_another_size_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "LARGEST", 1 << 20)
    path = npz(tmp_path / "bomb.npz", {"x.npy": zeros(8 << 20)})
    tracemalloc.start()
    with pytest.raises(SystolithError, match=r"bomb\.npz: Input 'x' must have shape \(2, 3\), not \(8388608,\)"):
        load_inputs(path, PROGRAM)
    with pytest.raises(SystolithError, match=r"bomb\.npz: arrays of a file of \d+ bytes must be at most 1048576 b"):
        load_arrays(path, ["x"])
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(X, shape=(2, 4)), DAMAGED),
        (npy(X, shape=(2, 2)), DAMAGED),
        (npy(X, shape=(-2, -3)), DAMAGED),
        (npy(X, shape=(1 << 62, 1 << 62)), DAMAGED),
        (npy(X, shape=(0, 1 << 70)), DAMAGED),
        (npy(X, descr="|O"), DAMAGED),
        (npy(X, descr="<U1"), DAMAGED),
        (npy(X, descr="<c8", shape=(3,)), DAMAGED),
        (npy(X, descr=[("a", "<f4")]), DAMAGED),
        (npy(X)[:-1], DAMAGED),
        (npy(X) + b"\0", DAMAGED),
        (npy(X)[:30], DAMAGED),
        (b"\x93NUMPY\x03\x00" + npy(X)[8:], DAMAGED),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + bytes(100), DAMAGED),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"(" * 60_000, DAMAGED),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000, DAMAGED),
        (npy(X, descr=">f4"), "Input 'x' must be float32, not >f4"),
        (npy(X, descr="<i4"), "Input 'x' must be float32, not int32"),
        (npy(X, shape=(3, 2)), "Input 'x' must have shape (2, 3), not (3, 2)"),
        (npy(X * np.float32("nan")), "Input 'x' must be numbers; it has NaN"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_arrays(tmp_path, content, message, packed):
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    if packed:
        npz(path, {"x.npy": content})
    with pytest.raises(SystolithError, match=rf"bad\.npy: {re.escape(message)}") as error:
        load_inputs(path, PROGRAM)
    assert "\n" not in str(error.value)


def test_damaged_archives(tmp_path):
    good = npz(tmp_path / "good.npz", {"x.npy": npy(X)}, zipfile.ZIP_STORED).read_bytes()
    path = tmp_path / "bad.npz"
    refused = 0
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert np.array_equal(load_inputs(path, PROGRAM)["x"], X)  # Dates and the like.
        except SystolithError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > len(good) // 2


def test_members_that_are_no_arrays(tmp_path):
    for name in ("x.txt", "x"):
        path = npz(tmp_path / "a.npz", {"x.npy": npy(X), name: b"text"})
        with pytest.raises(SystolithError, match=f"members must be .npy files as NumPy writes them, not '{name}'"):
            load_inputs(path, PROGRAM)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(SystolithError, match=r"members must be .npy files as NumPy writes them, not 'x.npy'"):
            load_inputs(npz(tmp_path / "a.npz", {"x.npy": npy(X)}, method), PROGRAM)
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x.npy", npy(X))
        archive.writestr("x.npy", npy(X + 1))
    with pytest.raises(SystolithError, match="arrays must have names of their own; 'x' is there twice"):
        load_inputs(tmp_path / "twice.npz", PROGRAM)


def test_a_stand_in_has_no_memory(tmp_path):
    header = ArrayFile(npz(tmp_path / "a.npz", {"x.npy": zeros(100)})).headers["x"]
    assert (header.shape, header.dtype, header.size) == ((100,), np.float32, 400)
    assert header.stand_in().strides == (0,)
