"""Program files: there and back; every flipped bit and every truncation is refused; writing is all or nothing."""

import json
import os
import re
import struct
import zlib
from dataclasses import replace

import pytest
from onnx import TensorProto, helper

from systolith import PRESETS, SystolithError, isa, program
from systolith.compiler.report.memory_map import memory_map
from systolith.isa import Region
from systolith.program import Layout, Program, Tensor

TINY = PRESETS["tiny4"]


def onnx_model(**attributes) -> bytes:
    """A model with the ports of SMALL; nobody runs it."""
    ports = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("x", TensorProto.FLOAT, ["n", 3, 5, 7]),
            ("y", TensorProto.INT8, None),
            ("z.2", TensorProto.UINT8, []),
        )
    ]
    node = helper.make_node("Anything", ["x"], ["y", "z.2"], "a node of the model", **attributes)
    return helper.make_model(helper.make_graph([node], "net", ports[:1], ports[1:])).SerializeToString()


SMALL = Program(
    fingerprint=TINY.fingerprint,
    array=4,
    code=isa.encode_program([isa.make("FENCE"), isa.make("END")]),
    weights=bytes(range(100)),
    inputs=(Tensor("x", (2, 3, 5, 7), "float32", Region.INPUT, 64, (2, 3, 5, 7), (0, 1, 2, 3), Layout.PIXELS, "uint8",
                   0.1234, 7),),
    outputs=(Tensor("y", (2, 10), "int8", Region.OUTPUT, 0, (2, 10, 1, 1), (0, 1), Layout.BLOCKED, "int8", 0.5, -3),
             Tensor("z.2", (), "uint8", Region.OUTPUT, 128, (1, 1, 1, 1), (), Layout.BLOCKED, "uint8")),
    scratch_bytes=4096,
    model=onnx_model(),
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
        (FILE.replace(b"of the model", b"of a model.."), "corrupt: CRC of section MODEL differs (offset "),
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
        ({4: b"{"}, [1, 2, 3, 4, 5], "META must be JSON; it is none"),
        ({4: b"[]"}, [1, 2, 3, 4, 5], "META must be a JSON object, not a list of 0"),
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
    tensor = replace(SMALL.inputs[0], shape=(1,) * 9, order=tuple(range(9)))
    with pytest.raises(SystolithError, match=r"^Program: tensor 'x' must have at most 8 dimensions, in an order"):
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


FIELDS = ("direction", "types", "layout", "rank", "zero_point", "scale", "region", "offset", "zero")


def record(index: int, **changes) -> dict[int, bytes]:
    """The section of tensors with one field of a tensor changed; "dims_2" is the third of its dims."""
    records = [list(record) for record in program.TENSOR.iter_unpack(SECTIONS[3])]
    for name, value in changes.items():
        lists = {"dims": 9, "shape": 13, "order": 21}
        stem, _, number = name.partition("_")
        records[index][lists[stem] + int(number) if stem in lists else FIELDS.index(name)] = value
    return {3: b"".join(program.TENSOR.pack(*record) for record in records)}


def meta(**changes) -> dict[int, bytes]:
    """The metadata with fields changed."""
    return {4: json.dumps(json.loads(SECTIONS[4]) | changes).encode()}


LAYER = SMALL.meta["layers"][0]
PLACE = {"sram": 3, "words": 4, "layers": [0, 0], "region": None, "offset": 0}
MEMORY = {"words": 512, "word_bytes": 4, "banks": 2, "peak_words": 9, "scratch_bytes": 0, "tensors": {"t": PLACE}}
WORDS = {**LAYER, "words": {"used": 3, "staging": [[0, 5]]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (record(0, order_0=1), "tensor 'x' must have at most 8 dimensions, in an order that has each once, not (1, 1,"),
        (record(0, order_3=4), "tensor 'x' must have at most 8 dimensions, in an order that has each once, not (0, 1,"),
        (record(0, rank=3), "tensor 'x' must have as many elements as its place of (2, 3, 5, 7), not (2, 3, 5)"),
        (record(0, rank=9), "tensor 'x' must have a defined direction, type, layout, region and rank"),
        (record(0, dims_1=4), "tensor 'x' must have as many elements as its place of (2, 4, 5, 7), not (2, 3, 5, 7)"),
        (record(1, shape_0=0, dims_0=0), "tensor 'y' must have as many elements as its place of (0, 10, 1, 1), not (0"),
        (record(0, types=0x20 | 3), "tensor 'x' must be float32, int8 or uint8, and in 8 bits, not float32 as int32"),
        (record(1, types=0x01), "tensor 'y' must be float32, int8 or uint8, and in 8 bits, not int8 as uint8"),
        (record(0, scale=0.0), "tensor 'x' must have a scale above 0, not 0.0"),
        (record(0, scale=-1.0), "tensor 'x' must have a scale above 0, not -1.0"),
        (record(0, scale=float("nan")), "tensor 'x' must have a scale above 0, not nan"),
        (record(0, scale=float("inf")), "tensor 'x' must have a scale above 0, not inf"),
        (record(0, zero_point=256), "tensor 'x' must have a zero point from 0 to 255, not 256"),
        (record(0, zero_point=-1), "tensor 'x' must have a zero point from 0 to 255, not -1"),
        (record(1, zero_point=128), "tensor 'y' must have a zero point from -128 to 127, not 128"),
        (record(0, region=3), "tensor 'x' must lie in region INPUT, not OUTPUT"),
        (record(1, region=0), "tensor 'y' must lie in region OUTPUT, not CODE"),
        (record(1, direction=0), "tensor 'y' must lie in region INPUT, not OUTPUT"),
        (record(0, offset=1 << 40), "inputs, outputs and scratch memory must be at most 268435456 bytes together, not"),
        (record(0, offset=0), "header must have (210, 132) bytes of inputs and outputs, not (274, 132)"),
        (record(1, offset=999), "header must have (274, 1023) bytes of inputs and outputs, not (274, 132)"),
        (record(0, shape_0=1 << 20, dims_0=1 << 20), "inputs and outputs must have at most 33554432 elements together"),
        (record(0, shape_0=1 << 31, dims_0=1 << 31), "inputs and outputs must have at most 33554432 elements together"),
        (record(0, shape_0=3, dims_0=3, offset=0), "header must have (315, 132) bytes of inputs and outputs, not (274"),
        (record(0, types=0x11), "its model must have a tensor 'x' of type uint8; it has another type"),
        (record(0, shape_1=5, shape_2=3), "its model must have an input 'x' of shape (2, 5, 3, 7); it has another one"),
        (meta(tensors=["x", "y", "y"]), "tensors must have names of their own, not 'y'"),
        (meta(tensors=["x", "", "y"]), "tensors must have names of their own, not ''"),
        (meta(tensors=["a", "y", "z.2"]), "its model must have inputs 'a', not 'x'"),
        (meta(tensors=["x", "y", "q"]), "its model must have outputs 'y', 'q', not 'y', 'z.2'"),
        (meta(tensors=["x", "y", 3]), "META.tensors must be a list of strings, not a list of 3"),
        (meta(tensors=["x", "y", "\ud800"]), "META.tensors must be a list of strings, not a list of 3"),
        (meta(model=["net"]), "META.model must be a string, not a list of 1"),
        (meta(notes="net"), "META.notes must be a list of strings, not 'net'"),
        (meta(layers={}), "META.layers must be a list of objects, not an object of 0"),
        (meta(layers=[3]), "META.layers must be a list of objects, not a list of 1"),
        (meta(layers=[{**LAYER, "name": 1}]), "META.layers[0].name must be a string, not 1"),
        (meta(layers=[{**LAYER, "op": None}]), "META.layers[0].op must be a string, not None"),
        (meta(layers=[LAYER, {**LAYER, "macs": -1}]), "META.layers[1].macs must be an integer from 0 to 9223372036854"),
        (meta(layers=[{**LAYER, "macs": True}]), "META.layers[0].macs must be an integer from 0 to 922337203685477580"),
        (meta(layers=[{**LAYER, "macs": 1.5}]), "META.layers[0].macs must be an integer from 0 to 9223372036854775807"),
        (meta(layers=[{**LAYER, "macs": 10**30}]), "META.layers[0].macs must be an integer from 0 to 9223372036854775"),
        (meta(layers=[{**LAYER, "last": 2}]), "META.layers[0].last must be an integer from 0 to 1, not 2"),
        (meta(layers=[{**LAYER, "first": 1}]), "META.layers[0].last must be an integer from 1 to 1, not 0"),
        (meta(layers=[{"name": "a", "op": "b", "macs": 1}]), "META.layers[0].first must be an integer from 0 to 1, no"),
        (meta(memory=[]), "META.memory must be an object, not a list of 0"),
        (meta(memory={**MEMORY, "words": 0}, layers=[WORDS]), "META.memory.words must be an integer from 1 to 262144,"),
        (meta(memory={**MEMORY, "banks": 513}, layers=[WORDS]), "META.memory.banks must be an integer from 1 to 512, "),
        (meta(memory=MEMORY), "META.layers[0].words must be an object, not there is none"),
        (meta(memory=MEMORY, layers=[{**LAYER, "words": {"used": 1, "staging": [[500, 13]]}}]), "META.layers[0].words"),
        (meta(memory={**MEMORY, "tensors": {"t": {**PLACE, "sram": 510}}}, layers=[WORDS]), "META.memory.tensors.t.wo"),
        (meta(memory={**MEMORY, "tensors": {"t": {**PLACE, "layers": [0, 1]}}}, layers=[WORDS]), "META.memory.tensors"),
        (meta(memory={**MEMORY, "tensors": {"t": {**PLACE, "region": "X"}}}, layers=[WORDS]), "META.memory.tensors.t."),
        ({4: b"[" * 100_000}, "META must be JSON; it is nested too deeply"),
        ({4: b'{"a":' * 100_000}, "META must be JSON; it is nested too deeply"),
        ({4: b" " * (1 << 24) + b"{}"}, "META must be at most 16777216 bytes of JSON, not 16777218"),
        ({4: b'{"tensors": ' + b"9" * 5000 + b"}"}, "META must be JSON; it is none"),
        ({4: b"{}"}, "META.tensors must be a list of strings, not there is none"),
        ({5: b"no model"}, "its model must be an ONNX model; it is none"),
        ({5: onnx_model(domain="com.example")}, "its model must have operators of known domains; Anything is of 'com."),
    ],
)  # fmt: skip
def test_altered_fields_with_right_crcs(changes, message):
    data = forged({**SECTIONS, **changes}, [1, 2, 3, 4, 5])
    with pytest.raises(SystolithError, match=r"^" + re.escape(f"f.slp: {message}")) as error:
        program.from_bytes(data, "f.slp")
    assert "\n" not in str(error.value)


def test_metadata_may_have_a_map_of_memory():
    data = forged({**SECTIONS, **meta(memory=MEMORY, layers=[WORDS], more={"of": "something"})}, [1, 2, 3, 4, 5])
    assert program.from_bytes(data).meta["memory"] == MEMORY
    assert "[     3,      7)" in memory_map(program.from_bytes(data).meta)


@pytest.mark.parametrize(("place", "value"), [(24, 8), (24, 6), (24, 0), (28, 1 << 30), (36, 1), (44, 1 << 60)])
def test_altered_header_with_right_crcs(place, value):
    header = bytearray(FILE)
    struct.pack_into("<I" if place == 24 else "<Q", header, place, value)
    struct.pack_into("<I", header, 60, zlib.crc32(bytes(header[:60]) + FILE[64 : 64 + 5 * 24]))
    with pytest.raises(SystolithError, match=r"^f\.slp: (array size|header|inputs, outputs and scratch) "):
        program.from_bytes(bytes(header), "f.slp")


def test_inputs_that_share_memory():
    tensors = [replace(SMALL.outputs[0], region=Region.INPUT, name=name, offset=offset)
               for name, offset in (("a", 0), ("b", 23))]  # fmt: skip
    with pytest.raises(SystolithError, match=r"^Program: tensors 'a' and 'b' must not share memory$"):
        program.to_bytes(replace(SMALL, inputs=tuple(tensors), model=b""))
    apart = (tensors[0], replace(tensors[1], offset=24))
    assert program.from_bytes(program.to_bytes(replace(SMALL, inputs=apart, model=b""))).inputs == apart
