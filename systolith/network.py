"""A network in parts: accelerator programs, and between them what the host runs under ONNX Runtime.

On disk (.slp as well) it is a container of whole files. Little-endian: magic "SYSTONET" 8 bytes, version u32, record
count u32, CRC-32 of the table u32, 12 bytes of zeros; the table, for each record kind u32, CRC-32 u32, size u64; the
records, without gaps. Kinds: PROGRAM (a program file) and HOST (an ONNX model), in the order in which they run, then
once each MODEL (the whole ONNX model) and META (JSON: name, ports of network and host parts, nodes of host parts). A
network without host parts is a plain program file.

ONNX initializers are there once, in MODEL: the models of parts (HOST, and section MODEL of a PROGRAM) are without those
that it has. META names them for each part, and a loader puts them back. It checks
all that it reads: a file may come from anybody.
"""

import enum
import json
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto

from systolith import program, program_rules
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.file_io import read_whole, write_whole
from systolith.json_fields import Item, read_json
from systolith.program import Program, Tensor
from systolith.runtime import ELEMENTS
from systolith.stored_models import check_onnx, check_ports, parse_model

__all__ = ["HostNode", "HostPart", "Network", "Signature", "check_whole", "load", "save"]

MAGIC = b"SYSTONET"
VERSION = 2
HEADER = struct.Struct("<8sIII12s")
RECORD = struct.Struct("<IIQ")
DTYPES = ("float32", "float16", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
          "uint64", "str", *(f"seq(tensor({name}))" for name in ELEMENTS))  # fmt: skip
"""Types of tensors, and of sequences of them, between parts."""
LISTED = 8
"""Records in an error."""


class Record(enum.IntEnum):
    """Kinds of records."""

    PROGRAM = 1
    HOST = 2
    MODEL = 3
    META = 4


@dataclass(frozen=True)
class Signature:
    """An input or output of a network, or of a part, by its ONNX name.

    A dimension that is not known before the network runs is None; so is the shape, if its rank is not known, or of a
    sequence. `dtype` is NumPy's name; a sequence has ONNX's, as "seq(tensor(float))".
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class HostNode:
    """A node on the host, and why; `macs` are the multiply-accumulates that the accelerator does not do."""

    op: str
    name: str
    reason: str
    macs: int = 0


@dataclass(frozen=True)
class HostPart:
    """Nodes that run under ONNX Runtime, as an ONNX model of their own."""

    model: bytes
    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]
    nodes: tuple[HostNode, ...]


@dataclass(frozen=True)
class Network:
    """Parts in an order in which they can run: each reads inputs of the network and outputs of those before it.

    `model` is the whole ONNX model, for comparison.
    """

    name: str
    parts: tuple[Program | HostPart, ...]
    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]
    model: bytes

    @property
    def programs(self) -> tuple[Program, ...]:
        """The accelerator's parts."""
        return tuple(part for part in self.parts if isinstance(part, Program))

    @property
    def host_nodes(self) -> tuple[HostNode, ...]:
        """All nodes on the host."""
        return tuple(node for part in self.parts if isinstance(part, HostPart) for node in part.nodes)

    def require(self, config: Config) -> None:
        """Raises SystolithError unless the network was compiled for `config`."""
        for part in self.programs:
            part.require(config)


def save(network: Program | Network, path: Path) -> None:
    """Write the file whole or not at all. Raises SystolithError if the path cannot be written."""
    write_whole(path, program.to_bytes(network) if isinstance(network, Program) else to_bytes(network))


def load(path: Path) -> Program | Network:
    """Read and check a file of either kind. Raises SystolithError, naming the file, for anything not as written."""
    data = read_whole(path)
    return from_bytes(data, str(path)) if data[:8] == MAGIC else program.from_bytes(data, str(path))


def to_bytes(network: Network) -> bytes:
    """The container's bytes. Raises SystolithError for a network that `from_bytes` would not take."""
    check_whole(network, "Network")
    stored = _initializers(network.model)
    records: list[tuple[Record, bytes]] = []
    left_out = []
    for part in network.parts:
        model, names = _without(part.model, stored)
        left_out.append(names)
        if isinstance(part, Program):
            records.append((Record.PROGRAM, program.to_bytes(replace(part, model=model))))
        else:
            records.append((Record.HOST, model))
    meta = {**_meta(network), "initializers": left_out}
    records += [(Record.MODEL, network.model), (Record.META, json.dumps(meta, sort_keys=True).encode())]
    table = b"".join(RECORD.pack(kind, zlib.crc32(content), len(content)) for kind, content in records)
    header = HEADER.pack(MAGIC, VERSION, len(records), zlib.crc32(table), bytes(12))
    return b"".join([header, table, *(content for _, content in records)])


def from_bytes(data: bytes, where: str = "network") -> Network:
    """Parse and check what `to_bytes` wrote; `where` names the source in errors."""
    records = _records(data, where)
    kinds = [kind for kind, _ in records]
    if kinds[-2:] != [Record.MODEL, Record.META] or not all(k in (Record.PROGRAM, Record.HOST) for k in kinds[:-2]):
        raise SystolithError(
            f"{where}: records must be parts, then the model, then META, not {[k.name for k in kinds][-LISTED:]}"
        )
    meta = read_json(records[-1][1], f"{where}: META")
    hosts, left_out = meta.items("hosts"), meta.text_lists("initializers")
    if len(hosts) != kinds.count(Record.HOST) or len(left_out) != len(records) - 2:
        raise SystolithError(
            f"{where}: META must have as many hosts and initializers as there are parts, "
            f"{kinds.count(Record.HOST)} and {len(records) - 2}, not {len(hosts)} and {len(left_out)}"
        )
    model = parse_model(records[-2][1], f"{where}: MODEL")
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    _check_left_out(left_out, stored, len(data), where)
    inputs, outputs = _signatures(meta, "inputs"), _signatures(meta, "outputs")
    check_ports(model, inputs, outputs, f"{where}: MODEL")
    described = iter(hosts)
    parts = [
        _part(kind, content, names, stored, described, f"{where}, part {index}")
        for index, ((kind, content), names) in enumerate(zip(records[:-2], left_out, strict=True))
    ]
    network = Network(meta.text("name"), tuple(parts), inputs, outputs, records[-2][1])
    check_network(network, where)
    return network


def _part(kind: Record, content: bytes, names: list[str], stored: dict[str, TensorProto], hosts: Iterator[Item],
          where: str) -> Program | HostPart:  # fmt: skip
    """A part, its initializers put back; the next of `hosts` describes it if it is the host's."""
    if kind == Record.PROGRAM:
        found = program.from_bytes(content, where, whole=False)
        found = replace(found, model=_with(found.model, names, stored, where))
        program.check_model(found, where)
        return found
    item = next(hosts)
    nodes = tuple(HostNode(n.text("op"), n.text("name"), n.text("reason"), n.integer("macs"))
                  for n in item.items("nodes"))  # fmt: skip
    part = HostPart(_with(content, names, stored, where), _signatures(item, "inputs"), _signatures(item, "outputs"),
                    nodes)  # fmt: skip
    model = parse_model(part.model, f"{where}: its model")
    check_onnx(model, f"{where}: its model")
    check_ports(model, part.inputs, part.outputs, f"{where}: its model")
    return part


def _check_left_out(left_out: list[list[str]], stored: dict[str, TensorProto], size: int, where: str) -> None:
    """Raises SystolithError for initializers that MODEL does not have, or so many that the file becomes far larger."""
    for index, names in enumerate(left_out):
        missing = sorted({*names} - stored.keys())
        if missing or len(set(names)) < len(names):
            raise SystolithError(
                f"{where}, part {index}: initializers must be some of MODEL, each once, "
                f"not {missing[0] if missing else max(names, key=names.count)!r}"
            )
    sizes = {name: tensor.ByteSize() for name, tensor in stored.items()}
    more = sum(sizes[name] for names in left_out for name in names)
    if more > size + program_rules.LARGEST:
        raise SystolithError(
            f"{where}: initializers of all parts must be at most {program_rules.LARGEST} bytes more than the file's "
            f"{size}, not {more}"
        )


def _initializers(model: bytes) -> dict[str, TensorProto]:
    """Those of an ONNX model, by name."""
    return {tensor.name: tensor for tensor in ModelProto.FromString(model).graph.initializer}


def _without(model: bytes, stored: dict[str, TensorProto]) -> tuple[bytes, list[str]]:
    """A model without the initializers that are stored elsewhere, and their names."""
    proto = ModelProto.FromString(model)
    kept = [tensor for tensor in proto.graph.initializer if stored.get(tensor.name) != tensor]
    names = [tensor.name for tensor in proto.graph.initializer if stored.get(tensor.name) == tensor]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto.SerializeToString(), names


def _with(model: bytes, names: list[str], stored: dict[str, TensorProto], where: str) -> bytes:
    """The model with these initializers again."""
    proto = parse_model(model, f"{where}: its model")
    proto.graph.initializer.extend(stored[name] for name in names)
    return proto.SerializeToString()


def _records(data: bytes, where: str) -> list[tuple[Record, bytes]]:
    """Records of a container, each whole and unchanged."""
    if len(data) < HEADER.size or data[:8] != MAGIC:
        raise SystolithError(f"{where}: must start with a {HEADER.size}-byte header of magic {MAGIC.decode()!r}")
    _, version, count, crc, zeros = HEADER.unpack_from(data)
    if version != VERSION:
        raise SystolithError(f"{where}: version must be {VERSION}, not {version}")
    end = HEADER.size + count * RECORD.size
    table = data[HEADER.size : end]
    if len(data) < end or zlib.crc32(table) != crc or any(zeros):
        raise SystolithError(
            f"{where}: header or table of {count} records is cut or damaged (file of {len(data)} bytes)"
        )
    records = []
    for index in range(count):
        kind, crc, size = RECORD.unpack_from(table, index * RECORD.size)
        if kind not in tuple(Record):
            raise SystolithError(f"{where}: record {index} must be of kind 1 to {max(Record)}, not {kind}")
        content = data[end : end + size]
        if len(content) != size:
            raise SystolithError(
                f"{where}: record {index} must have {size} bytes from offset {end}; the file ends there"
            )
        if zlib.crc32(content) != crc:
            raise SystolithError(f"{where}: record {index} ({Record(kind).name}) at offset {end} is damaged (CRC-32)")
        records.append((Record(kind), content))
        end += size
    if end != len(data):
        raise SystolithError(f"{where}: must end at offset {end}, not have {len(data) - end} bytes more")
    return records


def check_whole(network: Program | Network, where: str) -> None:
    """Raises SystolithError for what no file may hold: sizes beyond those of `program_rules.py`, for one."""
    if isinstance(network, Program):
        program_rules.check_program(network, where)
        return
    check_network(network, where)
    for index, part in enumerate(network.parts):
        if isinstance(part, Program):
            program_rules.check_program(part, f"{where}, part {index}")


def check_network(network: Network, where: str) -> None:
    """Raises SystolithError unless each part finds its inputs, as they are made, and the network its outputs."""
    sizes = [math.prod(1 if size is None else size for size in port.shape or ()) for port in network.inputs]
    if sum(sizes) > program_rules.LARGEST_VALUES:
        raise SystolithError(f"{where}: inputs must have at most {program_rules.LARGEST_VALUES} elements together")
    known: dict[str, Signature | Tensor] = {port.name: port for port in network.inputs}
    if len(known) < len(network.inputs):
        raise SystolithError(f"{where}: inputs must have names of their own")
    for part in network.parts:
        _check_known(part.inputs, known, where)
        passed = {port.name for port in part.inputs}
        for port in part.outputs:
            if port.name in known and port.name not in passed:
                raise SystolithError(f"{where}: tensor '{port.name}' must come from one place, not from two")
            known[port.name] = port
    _check_known(network.outputs, known, where)


def _check_known(ports: Sequence[Signature | Tensor], known: dict[str, Signature | Tensor], where: str) -> None:
    for port in ports:
        if port.name not in known:
            raise SystolithError(f"{where}: tensor '{port.name}' must come from a part before the one that reads it")
        made = known[port.name]
        if made.dtype != port.dtype or not _may_be(made.shape, port.shape):
            raise SystolithError(
                f"{where}: tensor '{port.name}' must be {made.dtype} {made.shape} as it is made, where it is read, "
                f"not {port.dtype} {port.shape}"
            )


def _may_be(made: tuple | None, read: tuple | None) -> bool:
    """Whether no size that both know differs. Sizes, or all of them, may depend on data."""
    if made is None or read is None:
        return True
    return len(made) == len(read) and all(a == b or None in (a, b) for a, b in zip(made, read, strict=True))


def _meta(network: Network) -> dict[str, Any]:
    hosts = [
        {
            "inputs": _described(part.inputs),
            "outputs": _described(part.outputs),
            "nodes": [asdict(n) for n in part.nodes],
        }
        for part in network.parts
        if isinstance(part, HostPart)
    ]
    return {
        "name": network.name,
        "inputs": _described(network.inputs),
        "outputs": _described(network.outputs),
        "hosts": hosts,
    }


def _described(signatures: tuple[Signature, ...]) -> list[dict[str, Any]]:
    return [asdict(signature) for signature in signatures]


def _signatures(item: Item, key: str) -> tuple[Signature, ...]:
    return tuple(Signature(port.text("name"), port.sizes("shape"), port.text("dtype", DTYPES))
                 for port in item.items(key))  # fmt: skip
