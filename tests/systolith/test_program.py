"""Program files: there and back; every flipped bit and every truncation is refused; writing is all or nothing."""

import os
import re
import struct
import zlib
from dataclasses import replace

import pytest

from systolith import PRESETS, SystolithError, isa, program
from systolith.isa import Region
from systolith.program import Layout, Program, Tensor

TINY = PRESETS["tiny4"]
SMALL = Program(
    fingerprint=TINY.fingerprint,
    array=4,
    code=isa.encode_program([isa.make("FENCE"), isa.make("END")]),
    weights=bytes(range(100)),
    inputs=(Tensor("x", (2, 3, 5, 7), "float32", Region.INPUT, 64, (2, 3, 5, 7), (0, 1, 2, 3), Layout.PIXELS, "uint8",
                   0.1234, 7),),
    outputs=(Tensor("y", (2, 10), "int8", Region.OUTPUT, 0, (2, 10, 1, 1), (0, 1), Layout.BLOCKED, "int8", 0.5, -3),
             Tensor("z.2", (), "int32", Region.OUTPUT, 128, (1, 1, 1, 1), ())),
    scratch_bytes=4096,
    model=b"not really a model",
    meta={"model": "net", "layers": [{"name": "a", "op": "Conv", "macs": 3, "first": 0, "last": 0}]},
)  # fmt: skip
FILE = program.to_bytes(SMALL)
TABLE = [struct.unpack_from("<IIQQ", FILE, 64 + 24 * i) for i in range(5)]


def test_round_trip(tmp_path):
    path = tmp_path / "net.slp"
    program.save(SMALL, path)
    loaded = program.load(path)
    assert loaded.inputs[0].scale == pytest.approx(0.1234, rel=1e-7)
    assert replace(loaded, inputs=(replace(loaded.inputs[0], scale=0.1234),)) == SMALL
    assert program.to_bytes(loaded) == FILE


def test_header_is_as_documented():
    assert FILE[:8] == b"SYSTOLTH"
    version, count = struct.unpack_from("<II", FILE, 8)
    assert (version, count) == (program.VERSION, 5)
    assert struct.unpack_from("<QIQQQ", FILE, 16) == (TINY.fingerprint, 4, 4096, 64 + 2 * 3 * 5 * 7, 132)
    assert struct.unpack_from("<I", FILE, 60)[0] == zlib.crc32(FILE[:60] + FILE[64 : 64 + count * 24])
    for i in range(count):
        kind, crc, offset, size = struct.unpack_from("<IIQQ", FILE, 64 + 24 * i)
        assert kind == i + 1
        assert offset % 64 == 0
        assert zlib.crc32(FILE[offset : offset + size]) == crc


def test_region_bytes():
    sizes = SMALL.region_bytes()
    assert sizes == {Region.CODE: 32, Region.WEIGHTS: 100, Region.INPUT: 274, Region.OUTPUT: 132, Region.SCRATCH: 4096}


def test_every_flipped_bit_is_refused_or_in_padding():
    """A flip is refused with one line; only padding between sections, which nobody reads, may be anything."""
    used = set(range(64 + 24 * 5)) | {k for _, _, offset, size in TABLE for k in range(offset, offset + size)}
    for position in range(len(FILE)):
        for bit in range(8):
            data = bytearray(FILE)
            data[position] ^= 1 << bit
            if position in used:
                with pytest.raises(SystolithError, match=r"^f\.slp: .+") as error:
                    program.from_bytes(bytes(data), "f.slp")
                assert "\n" not in str(error.value)
            else:
                assert program.from_bytes(bytes(data)) == program.from_bytes(FILE)


def test_every_truncation_is_refused():
    end = max(
        offset + size for _, _, offset, size in (struct.unpack_from("<IIQQ", FILE, 64 + 24 * i) for i in range(5))
    )
    for length in range(end):
        with pytest.raises(SystolithError, match=r"^f.slp: (truncated: |must start with )") as error:
            program.from_bytes(FILE[:length], "f.slp")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must start with a 64-byte header of magic 'SYSTOLTH', not b'' (0 bytes)"),
        (b"\x7fELF" + bytes(100), r"must start with a 64-byte header of magic 'SYSTOLTH', not b'\x7fELF"),
        (FILE[:8] + b"\x02" + FILE[9:], "version must be 1, not 2 (offset 8)"),
        (FILE[:150], "truncated: section table needs 184 bytes, file has 150"),
        (FILE[:20] + b"\0" + FILE[21:], "corrupt: CRC of header and section table differs (offset 60)"),
        (FILE[:300], "truncated: section WEIGHTS ends at offset "),
        (FILE.replace(b"not really", b"yes really"), "corrupt: CRC of section MODEL differs (offset "),
    ],
)
def test_messages(data, message):
    with pytest.raises(SystolithError, match=r"^" + re.escape(f"f.slp: {message}")):
        program.from_bytes(data, "f.slp")


def forged(sections: dict[int, bytes], kinds: list[int]) -> bytes:
    """A file whose every CRC is right, with these sections in this order."""
    table, body, start = b"", b"", 64 + 24 * len(kinds)
    for kind in kinds:
        table += struct.pack("<IIQQ", kind, zlib.crc32(sections[kind]), start + len(body), len(sections[kind]))
        body += sections[kind]
    header = FILE[:12] + struct.pack("<I", len(kinds)) + FILE[16:60]
    return header + struct.pack("<I", zlib.crc32(header + table)) + table + body


SECTIONS = {kind: FILE[offset : offset + size] for kind, _, offset, size in TABLE}


@pytest.mark.parametrize(
    ("changes", "kinds", "message"),
    [
        ({}, [1, 2, 3, 5], "section META is missing"),
        ({}, [1, 2, 3, 4, 5, 5], "section MODEL must occur once, not twice"),
        ({9: b""}, [1, 2, 3, 4, 5, 9], "section 6 must be of kind 1 to 5, not 9"),
        ({1: bytes(17)}, [1, 2, 3, 4, 5], "section CODE must be a multiple of 16 bytes, not 17"),
        ({3: bytes(100)}, [1, 2, 3, 4, 5], "section TENSORS must have 3 records of 128 bytes, not 100 bytes"),
        ({3: SECTIONS[3][:256]}, [1, 2, 3, 4, 5], "section TENSORS must have 3 records of 128 bytes, not 256 bytes"),
        ({4: b"{"}, [1, 2, 3, 4, 5], "section META must be JSON with a list of tensor names"),
        ({4: b"[]"}, [1, 2, 3, 4, 5], "section META must be JSON with a list of tensor names"),
        ({3: b"\x07" + SECTIONS[3][1:]}, [1, 2, 3, 4, 5], "tensor 'x' must have a defined direction"),
        ({3: SECTIONS[3][:1] + b"\xff" + SECTIONS[3][2:]}, [1, 2, 3, 4, 5], "tensor 'x' must have a defined direction"),
    ],
)  # fmt: skip
def test_wrong_contents_with_right_crcs(changes, kinds, message):
    data = forged({**SECTIONS, **changes}, kinds)
    with pytest.raises(SystolithError, match=r"^" + re.escape(f"f.slp: {message}")):
        program.from_bytes(data, "f.slp")


def test_forged_file_is_right_where_it_should_be():
    assert program.from_bytes(forged(SECTIONS, [5, 4, 3, 2, 1])) == program.from_bytes(FILE)


def test_another_configuration_is_refused():
    other = PRESETS["edge16"]
    SMALL.require(TINY)
    message = (
        f"Program must be compiled for configuration 'edge16' (fingerprint {other.fingerprint:016x}), "
        f"not for fingerprint {TINY.fingerprint:016x}"
    )
    with pytest.raises(SystolithError, match=f"^{re.escape(message)}$"):
        SMALL.require(other)


def test_missing_file(tmp_path):
    with pytest.raises(SystolithError, match=r"none\.slp: cannot be read: No such file or directory$"):
        program.load(tmp_path / "none.slp")


def test_too_many_dimensions():
    tensor = replace(SMALL.inputs[0], shape=(1,) * 9)
    with pytest.raises(SystolithError, match=r"^Tensor 'x' must have at most 8 dimensions, not 9$"):
        program.to_bytes(replace(SMALL, inputs=(tensor,)))


def test_a_file_that_cannot_be_written_stays(tmp_path, monkeypatch):
    path = tmp_path / "net.slp"
    path.write_bytes(b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SystolithError, match=r"net\.slp: cannot be written: No space left on device$"):
        program.save(SMALL, path)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["net.slp"]


def test_missing_folder(tmp_path):
    with pytest.raises(SystolithError, match=r"net\.slp: cannot be written: No such file or directory$"):
        program.save(SMALL, tmp_path / "none" / "net.slp")
