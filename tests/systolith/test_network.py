"""Files of networks in parts: what is read is what was written, and nothing else is taken."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from split_models import MODELS

from systolith import PRESETS, SystolithError, network
from systolith.compiler.network import compile_network
from systolith.network import HEADER, RECORD, HostPart, Network, Record, from_bytes, load, save, to_bytes

TINY = PRESETS["tiny4"]


@pytest.fixture(scope="module")
def parts() -> Network:
    made = compile_network(MODELS["middle"][0]().model("net"), TINY)
    assert isinstance(made, Network)
    return made


def test_round_trip(parts, tmp_path):
    save(parts, tmp_path / "net.slp")
    loaded = load(tmp_path / "net.slp")
    assert loaded == parts
    assert to_bytes(loaded) == to_bytes(parts)


@pytest.mark.parametrize("name", MODELS)
def test_initializers_are_there_once(name):
    """In the whole model; and with them again, every part is what it was."""
    made = compile_network(MODELS[name][0]().model("net"), TINY)
    assert isinstance(made, Network)
    data = to_bytes(made)
    assert from_bytes(data) == made
    large = [t.raw_data for t in onnx.load_from_string(made.model).graph.initializer if len(t.raw_data) >= 32]
    assert all(data.count(values) == 1 for values in large)
    assert large


def test_a_program_alone_is_a_program_file(parts, tmp_path):
    save(parts.programs[0], tmp_path / "one.slp")
    assert (tmp_path / "one.slp").read_bytes()[:8] == b"SYSTOLTH"
    assert load(tmp_path / "one.slp") == parts.programs[0]


def test_another_configuration_is_refused(parts):
    parts.require(TINY)
    with pytest.raises(SystolithError, match="must be compiled for configuration 'edge16'"):
        parts.require(PRESETS["edge16"])


def test_every_damaged_byte_is_found(parts):
    """A changed byte anywhere, or a cut anywhere, is refused."""
    data = to_bytes(parts)
    rng = np.random.default_rng(1)
    places = [*range(HEADER.size), *rng.integers(HEADER.size, len(data), 200)]
    for place in places:
        wrong = bytearray(data)
        wrong[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(SystolithError, match=r"^file"):
            from_bytes(bytes(wrong), "file")
    for size in [0, 7, HEADER.size - 1, HEADER.size, *rng.integers(0, len(data), 50)]:
        with pytest.raises(SystolithError, match=r"^file"):
            from_bytes(data[:size], "file")
    with pytest.raises(SystolithError, match=r"must end at offset \d+, not have 3 bytes more"):
        from_bytes(data + b"abc", "file")


def test_records_that_do_not_fit_together(parts):
    """Files with right checksums, and wrong contents."""
    with pytest.raises(SystolithError, match="must come from a part before the one that reads it"):
        from_bytes(to_bytes(replace(parts, parts=parts.parts[::-1])))
    with pytest.raises(SystolithError, match="must come from a part before"):
        from_bytes(to_bytes(replace(parts, inputs=())))
    records = [(Record.META, b"{}"), (Record.MODEL, b"")]
    with pytest.raises(SystolithError, match=r"records must be parts, then the model, then META"):
        from_bytes(packed(records))
    for meta in (b"", b"{}", b"[]", b"\xff", b'{"name": 1, "hosts": 3, "inputs": [], "outputs": []}'):
        with pytest.raises(SystolithError, match="META must be as the compiler wrote it"):
            from_bytes(packed([(Record.MODEL, b""), (Record.META, meta)]))
    host = next(part for part in parts.parts if isinstance(part, HostPart))
    with pytest.raises(SystolithError, match="META must be as the compiler wrote it"):
        meta = b'{"name": "n", "hosts": [], "initializers": [[]], "inputs": [], "outputs": []}'
        from_bytes(packed([(Record.HOST, host.model), (Record.MODEL, b""), (Record.META, meta)]))
    with pytest.raises(SystolithError, match="record 0 must be of kind 1 to 4, not 9"):
        from_bytes(packed([(9, b"")]))
    with pytest.raises(SystolithError, match="network, part 0: "):
        meta = b'{"hosts": [], "initializers": [[]]}'
        from_bytes(packed([(Record.PROGRAM, b"no program"), (Record.MODEL, b""), (Record.META, meta)]))
    for meta in (b'{"hosts": [], "initializers": []}', b'{"hosts": [], "initializers": [["w"]]}'):
        with pytest.raises(SystolithError, match="META must be as the compiler wrote it"):
            from_bytes(packed([(Record.HOST, host.model), (Record.MODEL, b""), (Record.META, meta)]))
    with pytest.raises(SystolithError, match="records HOST and MODEL must be ONNX models; one of them is none"):
        from_bytes(packed([(Record.MODEL, b"no model"), (Record.META, b'{"hosts": []}')]))


def test_versions_and_files(parts, tmp_path: Path):
    data = bytearray(to_bytes(parts))
    struct.pack_into("<I", data, 8, 7)
    with pytest.raises(SystolithError, match="version must be 2, not 7"):
        from_bytes(bytes(data))
    with pytest.raises(SystolithError, match=r"none\.slp: cannot be read"):
        load(tmp_path / "none.slp")
    with pytest.raises(SystolithError, match="cannot be written"):
        save(parts, tmp_path / "nowhere" / "net.slp")


def packed(records: list[tuple[int, bytes]]) -> bytes:
    """A container of these records, checksums right."""
    table = b"".join(RECORD.pack(kind, zlib.crc32(content), len(content)) for kind, content in records)
    header = HEADER.pack(network.MAGIC, network.VERSION, len(records), zlib.crc32(table), bytes(12))
    return b"".join([header, table, *(content for _, content in records)])
