"""Files of networks in parts: what is read is what was written, and nothing else is taken."""

import json
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from systolith import PRESETS, SystolithError, network, program
from systolith.compiler.network import compile_network
from systolith.network import HEADER, RECORD, HostPart, Network, Record, from_bytes, load, save, to_bytes
from tests.support.split_models import MODELS

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


def test_what_cannot_be_read_is_not_written(parts):
    with pytest.raises(SystolithError, match=r"^Network: tensor .* must come from a part before the one that reads it"):
        to_bytes(replace(parts, parts=parts.parts[::-1]))


def test_records_that_do_not_fit_together(parts, monkeypatch):
    """Files with right checksums, and wrong contents."""
    monkeypatch.setattr(network, "check_whole", lambda *_: None)
    with pytest.raises(SystolithError, match="must come from a part before the one that reads it"):
        from_bytes(to_bytes(replace(parts, parts=parts.parts[::-1])))
    with pytest.raises(SystolithError, match="must come from a part before"):
        from_bytes(to_bytes(replace(parts, parts=parts.parts[:-1])))
    with pytest.raises(SystolithError, match=r"tensor '.*' must come from one place, not from two"):
        from_bytes(to_bytes(replace(parts, parts=(parts.parts[0], *parts.parts))))
    records = [(Record.META, b"{}"), (Record.MODEL, b"")]
    with pytest.raises(SystolithError, match=r"records must be parts, then the model, then META"):
        from_bytes(packed(records))
    with pytest.raises(SystolithError, match="record 0 must be of kind 1 to 4, not 9"):
        from_bytes(packed([(9, b"")]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 1}, "META.name must be a string, not 1"),
        ({"name": "\ud800"}, "META.name must be a string, not "),
        ({"hosts": None}, "META.hosts must be a list of objects, not None"),
        ({"hosts": []}, "META must have as many hosts and initializers as there are parts, 2 and 5, not 0 and 5"),
        ({"initializers": [[]]}, "META must have as many hosts and initializers as there are parts, 2 and 5, not 2 an"),
        (
            {"initializers": [["none"], [], [], [], []]},
            "part 0: initializers must be some of MODEL, each once, ",
        ),
        ({"initializers": [["scale_1"] * 2, [], [], [], []]}, "part 0: initializers must be some of MODEL, each once"),
        ({"initializers": [[1], [], [], [], []]}, "META.initializers must be a list of lists of strings, not a list"),
        ({"inputs": [{"name": "x", "shape": [1, 4, 6, 6]}]}, "META.inputs[0].dtype must be one of float32, float16, "),
        (
            {"inputs": [{"name": "x", "shape": [1, -4, 6, 6], "dtype": "int8"}]},
            "META.inputs[0].shape must be a",
        ),
        ({"inputs": [{"name": "x", "shape": [True], "dtype": "int8"}]}, "META.inputs[0].shape must be a list of sizes"),
        (
            {"inputs": [{"name": "x", "shape": [1, 4, 6, 6], "dtype": "int8"}]},
            "MODEL must have a tensor 'x' of type",
        ),
        (
            {"inputs": [{"name": "x", "shape": [1, 4, 6, 5], "dtype": "float32"}]},
            "MODEL must have an input 'x' of ",
        ),
        ({"inputs": [{"name": "z", "shape": [1], "dtype": "int8"}]}, "MODEL must have inputs 'z', not 'x'"),
        ({"inputs": []}, "MODEL must have inputs none, not 'x'"),
        ({"outputs": []}, "MODEL must have outputs none, not "),
    ],
)
def test_altered_metadata_with_right_checksums(parts, changes, message):
    with pytest.raises(SystolithError, match=rf"^net\.slp.*{re.escape(message)}"):
        from_bytes(altered(parts, changes), "net.slp")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hosts: hosts[0].update(nodes=3), "META.hosts[0].nodes must be a list of objects, not 3"),
        (
            lambda hosts: hosts[0]["nodes"][0].update(macs=-1),
            "META.hosts[0].nodes[0].macs must be an integer from",
        ),
        (lambda hosts: hosts[0]["nodes"][0].pop("reason"), "META.hosts[0].nodes[0].reason must be a string, not there"),
        (lambda hosts: hosts[0]["inputs"][0].update(dtype="uint8"), "part 1: its model must have a tensor "),
        (lambda hosts: hosts[0]["inputs"][0].update(shape=[1, 1, 1, 1]), "part 1: its model must have an input "),
        (lambda hosts: hosts[0]["outputs"][0].update(shape=[7]), " as it is made, where it is read, not int8 (1, 4, "),
        (lambda hosts: hosts.reverse(), "part 1: its model must have inputs "),
    ],
)
def test_altered_hosts_with_right_checksums(parts, change, message):
    meta = json.loads(records_of(to_bytes(parts))[-1][1])
    change(meta["hosts"])
    with pytest.raises(SystolithError, match=rf"^net\.slp.*{re.escape(message)}"):
        from_bytes(altered(parts, meta), "net.slp")


def test_shapes_of_host_parts_may_be_open(parts):
    """A size, or all of them, that depends on data."""
    meta = json.loads(records_of(to_bytes(parts))[-1][1])
    meta["hosts"][0]["outputs"][0]["shape"] = [1, None, 6, 6]
    meta["hosts"][1]["outputs"][0]["shape"] = None
    hosts = [part for part in from_bytes(altered(parts, meta)).parts if isinstance(part, HostPart)]
    assert [host.outputs[0].shape for host in hosts] == [(1, None, 6, 6), None]
    meta["inputs"][0]["shape"] = [1, None, 6, 6]
    assert from_bytes(altered(parts, meta)).inputs[0].shape == (1, None, 6, 6)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"[" * 10**6, b'{"a":' * 10**5, b"9" * 5000, b" " * (1 << 25)]
)
def test_metadata_that_is_no_json(parts, content):
    records = records_of(to_bytes(parts))
    with pytest.raises(SystolithError, match=r"^net\.slp: META must be "):
        from_bytes(packed([*records[:-1], (Record.META, content)]), "net.slp")


def test_a_part_that_is_none(parts):
    records = records_of(to_bytes(parts))
    for index, message in ((0, "part 0: must start with a 64-byte header"), (1, "part 1: its model must be an ONNX mo"),
                           (-2, "net.slp: MODEL must be an ONNX model; it is none")):  # fmt: skip
        wrong = [*records]
        wrong[index] = (records[index][0], b"no model")
        with pytest.raises(SystolithError, match=re.escape(message)):
            from_bytes(packed(wrong), "net.slp")


def test_initializers_that_would_fill_the_memory(parts):
    """Every part may have each, so a small file could be a large network."""
    model = onnx.load_from_string(parts.model)
    large = onnx.numpy_helper.from_array(np.zeros(1 << 20, np.int8), "large")
    model.graph.initializer.append(large)
    count = 300
    meta = {"name": "n", "hosts": [], "initializers": [["large"]] * count, "inputs": [], "outputs": []}
    records = [(Record.PROGRAM, b"")] * count
    data = packed([*records, (Record.MODEL, model.SerializeToString()), (Record.META, json.dumps(meta).encode())])
    with pytest.raises(SystolithError, match="must be at most 268435456 bytes more than the file's"):
        from_bytes(data)


def outside(tensor: onnx.TensorProto) -> None:
    """Make a tensor one whose values are in another file."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.txt")


def sparse(tensor: onnx.SparseTensorProto) -> onnx.SparseTensorProto:
    tensor.values.name = "sparse"
    tensor.values.data_type = onnx.TensorProto.FLOAT
    outside(tensor.values)
    return tensor


PLACES = {
    "initializer": lambda model: outside(model.graph.initializer.add(name="outside")),
    "sparse initializer": lambda model: sparse(model.graph.sparse_initializer.add()),
    "attribute": lambda model: outside(model.graph.node[0].attribute.add(name="a").t),
    "sparse attribute": lambda model: sparse(model.graph.node[0].attribute.add(name="a").sparse_tensor),
    "subgraph": lambda model: outside(model.graph.node[0].attribute.add(name="a").g.initializer.add()),
    "node of a subgraph": lambda model: outside(
        model.graph.node[0].attribute.add(name="a").graphs.add().node.add().attribute.add(name="b").tensors.add()
    ),
    "function": lambda model: outside(model.functions.add().node.add().attribute.add(name="a").t),
    "training": lambda model: outside(model.training_info.add().algorithm.initializer.add()),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("index", [0, 1, -2])
def test_no_file_is_read_but_the_program(parts, place, index, tmp_path, monkeypatch):
    """External data would be read from the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_bytes(bytes(1000))
    records = records_of(to_bytes(parts))
    kind, content = records[index]
    model = onnx.ModelProto.FromString(program.from_bytes(content, whole=False).model if index == 0 else content)
    PLACES[place](model)
    content = model.SerializeToString()
    if index == 0:
        content = program.to_bytes(replace(parts.programs[0], model=content))
    wrong = [*records]
    wrong[index] = (kind, content)
    with pytest.raises(SystolithError, match=r"^net\.slp.* must hold all its data; tensor '.*' is in another file"):
        from_bytes(packed(wrong), "net.slp")


def test_operators_of_strangers_are_refused(parts):
    records = records_of(to_bytes(parts))
    for domain in ("com.example", "ai.onnx.training"):
        model = onnx.ModelProto.FromString(records[1][1])
        model.graph.node[0].attribute.add(name="a").g.node.add(op_type="Steal", domain=domain)
        wrong = [records[0], (Record.HOST, model.SerializeToString()), *records[2:]]
        with pytest.raises(SystolithError, match=f"must have operators of known domains; Steal is of '{domain}'"):
            from_bytes(packed(wrong))


def test_a_host_part_must_be_sound(parts):
    records = records_of(to_bytes(parts))
    model = onnx.ModelProto.FromString(records[1][1])
    model.graph.node[0].op_type = "Nothing"
    with pytest.raises(SystolithError, match="part 1: its model is not valid ONNX: No Op registered for Nothing"):
        from_bytes(packed([records[0], (Record.HOST, model.SerializeToString()), *records[2:]]))


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


def records_of(data: bytes) -> list[tuple[Record, bytes]]:
    return network._records(data, "file")


def altered(parts: Network, changes: dict) -> bytes:
    """The file with other metadata, checksums right."""
    records = records_of(to_bytes(parts))
    meta = json.loads(records[-1][1]) | changes
    return packed([*records[:-1], (Record.META, json.dumps(meta).encode())])
