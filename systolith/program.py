"""The program file (.slp): what a compiled network is on disk, and what the driver, simulators and hosts load.

Little-endian. A header of 64 bytes, a table of sections, the sections, each aligned to 64 bytes:

    0  magic "SYSTOLTH"   8 bytes      header: 8 version u32, 12 section count u32, 16 configuration fingerprint u64,
                                       24 array size u32, 28 scratch bytes u64, 36 input bytes u64, 44 output bytes u64,
                                       52 zero, 60 CRC-32 of bytes 0..59 and the section table u32
    64 section table: per section kind u32, CRC-32 u32, offset u64, size u64

Sections: CODE (instructions), WEIGHTS (weights and parameters as region WEIGHTS holds them), TENSORS (128-byte
records), META (JSON: names, layers), MODEL (the ONNX file it was compiled from, for `run --check`). A loader checks all
of it before it trusts any of it: checksums, then `program_rules.py` and `stored_models.py`.
"""

import enum
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from systolith.config import Config
from systolith.errors import SystolithError
from systolith.file_io import read_whole, write_whole
from systolith.isa import INSTRUCTION_BYTES, Region
from systolith.json_fields import read_json
from systolith.program_rules import RANK, check_meta, check_program
from systolith.stored_models import check_ports, parse_model

__all__ = ["DTYPES", "Layout", "Program", "Tensor", "load", "save"]

MAGIC = b"SYSTOLTH"
VERSION = 1
ALIGN = 64
HEADER = struct.Struct("<8sIIQIQQQ8xI")
SECTION = struct.Struct("<IIQQ")
TENSOR = struct.Struct("<BBBBifIQQ4I8I8B40x")
DTYPES = ("int8", "uint8", "float32", "int32")


class Section(enum.IntEnum):
    """Kinds of sections; each occurs once."""

    CODE = 1
    WEIGHTS = 2
    TENSORS = 3
    META = 4
    MODEL = 5


class Layout(enum.IntEnum):
    """How a (batch, channels, height, width) tensor lies in memory, as int8 (uint8 values are stored minus 128)."""

    BLOCKED = 0
    """[batch][ceil(channels / N)][height][width][N], channels past the end hold anything on output, zeros on input."""
    PIXELS = 1
    """[batch][height][width][channels], no padding."""


@dataclass(frozen=True)
class Tensor:
    """A network input or output: the host's view (name, shape, dtype) and where and how the accelerator keeps it.

    The host array of `shape` is quantized to `quantized` ("int8" or "uint8") by `scale` and `zero_point` when `dtype`
    is float32, its axes are permuted by `order`, and the result is reshaped to `dims` = (batch, channels, height,
    width), which lies at `offset` of `region` in `layout`. Outputs go the same way back.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    region: Region
    offset: int
    dims: tuple[int, int, int, int]
    order: tuple[int, ...]
    layout: Layout = Layout.BLOCKED
    quantized: str = "int8"
    scale: float = 1.0
    zero_point: int = 0

    def stored_bytes(self, array: int) -> int:
        """Bytes the tensor takes in its region on an accelerator of size `array`."""
        batch, channels, height, width = self.dims
        if self.layout == Layout.BLOCKED:
            channels = -(-channels // array) * array
        return batch * channels * height * width


@dataclass(frozen=True)
class Program:
    """A compiled network for one configuration. `model` holds the ONNX file's bytes.

    `meta` is JSON: "model", "notes", "layers" and "memory". A layer has "name", "op", "fused" ("pool", "add", "table"),
    "unit" ("array", "depthwise", "sfu"), "macs", "ops" (values that the SFU reads), "first" and "last" instruction,
    both inclusive, "estimate" (cycles), and the "words" of activation SRAM that tensors and staging buffers take.
    "memory" has the size of that SRAM, "peak_words", "scratch_bytes", and the place and layers of each tensor.
    """

    fingerprint: int
    array: int
    code: bytes
    weights: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    scratch_bytes: int = 0
    model: bytes = b""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple["Program"]:
        """A network's parts: a program alone is one."""
        return (self,)

    @property
    def programs(self) -> tuple["Program"]:
        """The accelerator's parts."""
        return (self,)

    def region_bytes(self) -> dict[Region, int]:
        """Bytes each memory region must have."""
        return {
            Region.CODE: len(self.code),
            Region.WEIGHTS: len(self.weights),
            Region.INPUT: max((t.offset + t.stored_bytes(self.array) for t in self.inputs), default=0),
            Region.OUTPUT: max((t.offset + t.stored_bytes(self.array) for t in self.outputs), default=0),
            Region.SCRATCH: self.scratch_bytes,
        }

    def require(self, config: Config) -> None:
        """Raises SystolithError unless the program was compiled for `config`."""
        if self.fingerprint != config.fingerprint:
            raise SystolithError(
                f"Program must be compiled for configuration '{config.name}' (fingerprint {config.fingerprint:016x}), "
                f"not for fingerprint {self.fingerprint:016x}"
            )
        if self.array != config.array:
            raise SystolithError(f"Program must be for an array of size {config.array}, not {self.array}")


def save(program: Program, path: Path) -> None:
    """Write the program file whole or not at all. Raises SystolithError if the path cannot be written."""
    write_whole(path, to_bytes(program))


def load(path: Path) -> Program:
    """Read and check a program file. Raises SystolithError, naming file and offset, for anything not as written."""
    return from_bytes(read_whole(path), str(path))


def to_bytes(program: Program) -> bytes:
    """The file's bytes. Raises SystolithError for a program that `from_bytes` would not take."""
    check_program(program, "Program")
    tensors = [(0, t) for t in program.inputs] + [(1, t) for t in program.outputs]
    meta = {**program.meta, "tensors": [t.name for _, t in tensors]}
    sections = {
        Section.CODE: program.code,
        Section.WEIGHTS: program.weights,
        Section.TENSORS: b"".join(_pack_tensor(direction, t) for direction, t in tensors),
        Section.META: json.dumps(meta, sort_keys=True).encode(),
        Section.MODEL: program.model,
    }
    sizes = program.region_bytes()
    table, body = b"", b""
    start = _aligned(HEADER.size + len(sections) * SECTION.size)
    for kind, content in sections.items():
        table += SECTION.pack(kind, zlib.crc32(content), start + len(body), len(content))
        body += content.ljust(_aligned(len(content)), b"\0")
    header = HEADER.pack(
        MAGIC,
        VERSION,
        len(sections),
        program.fingerprint,
        program.array,
        program.scratch_bytes,
        sizes[Region.INPUT],
        sizes[Region.OUTPUT],
        0,
    )[:-4]
    header += struct.pack("<I", zlib.crc32(header + table))
    return (header + table).ljust(start, b"\0") + body


def from_bytes(data: bytes, where: str = "program", whole: bool = True) -> Program:
    """Parse and check what `to_bytes` wrote; `where` names the source in errors. The model of a part of a network is
    not `whole`, and looked at when it is."""
    if len(data) < HEADER.size or data[:8] != MAGIC:
        raise SystolithError(
            f"{where}: must start with a {HEADER.size}-byte header of magic {MAGIC.decode()!r}, "
            f"not {data[:8]!r} ({len(data)} bytes)"
        )
    _, version, count, fingerprint, array, scratch, input_bytes, output_bytes, crc = HEADER.unpack_from(data)
    if version != VERSION:
        raise SystolithError(f"{where}: version must be {VERSION}, not {version} (offset 8)")
    end = HEADER.size + count * SECTION.size
    if len(data) < end:
        raise SystolithError(f"{where}: truncated: section table needs {end} bytes, file has {len(data)}")
    if zlib.crc32(data[: HEADER.size - 4] + data[HEADER.size : end]) != crc:
        raise SystolithError(f"{where}: corrupt: CRC of header and section table differs (offset {HEADER.size - 4})")
    sections: dict[Section, bytes] = {}
    for i in range(count):
        section, content = _read_section(data, i, where)
        if section in sections:
            raise SystolithError(f"{where}: section {section.name} must occur once, not twice")
        sections[section] = content
    if missing := set(Section) - sections.keys():
        raise SystolithError(f"{where}: section {min(missing).name} is missing")
    meta, names = _read_meta(sections[Section.META], sections[Section.CODE], where)
    records = sections[Section.TENSORS]
    if len(records) != TENSOR.size * len(names):
        raise SystolithError(
            f"{where}: section TENSORS must have {len(names)} records of {TENSOR.size} bytes, not {len(records)} bytes"
        )
    tensors = [
        _unpack_tensor(name, record, where) for name, record in zip(names, TENSOR.iter_unpack(records), strict=True)
    ]
    program = Program(
        fingerprint,
        array,
        sections[Section.CODE],
        sections[Section.WEIGHTS],
        tuple(t for direction, t in tensors if direction == 0),
        tuple(t for direction, t in tensors if direction == 1),
        scratch,
        sections[Section.MODEL],
        meta,
    )
    check_program(program, where)
    sizes = program.region_bytes()
    found, expected = (input_bytes, output_bytes), (sizes[Region.INPUT], sizes[Region.OUTPUT])
    if found != expected:
        raise SystolithError(f"{where}: header must have {expected} bytes of inputs and outputs, not {found}")
    if whole and program.model:
        check_model(program, where)
    return program


def check_model(program: Program, where: str) -> None:
    """Raises SystolithError unless the ONNX model is self-contained, and has the program's inputs and outputs."""
    check_ports(parse_model(program.model, f"{where}: its model"), program.inputs, program.outputs,
                f"{where}: its model")  # fmt: skip


def _read_section(data: bytes, i: int, where: str) -> tuple[Section, bytes]:
    kind, crc, offset, size = SECTION.unpack_from(data, HEADER.size + i * SECTION.size)
    if kind not in set(Section):
        raise SystolithError(f"{where}: section {i + 1} must be of kind 1 to {max(Section)}, not {kind}")
    section = Section(kind)
    if offset + size > len(data):
        raise SystolithError(
            f"{where}: truncated: section {section.name} ends at offset {offset + size}, file has {len(data)} bytes"
        )
    content = data[offset : offset + size]
    if zlib.crc32(content) != crc:
        raise SystolithError(f"{where}: corrupt: CRC of section {section.name} differs (offset {offset})")
    if section == Section.CODE and size % INSTRUCTION_BYTES:
        raise SystolithError(f"{where}: section CODE must be a multiple of {INSTRUCTION_BYTES} bytes, not {size}")
    return section, content


def _read_meta(content: bytes, code: bytes, where: str) -> tuple[dict[str, Any], list[str]]:
    """The metadata, and the tensors' names that `to_bytes` put in it."""
    meta = read_json(content, f"{where}: META")
    names = meta.texts("tensors")
    check_meta(meta, code)
    return {key: value for key, value in meta.values.items() if key != "tensors"}, names


def _pack_tensor(direction: int, t: Tensor) -> bytes:
    flags = DTYPES.index(t.dtype) << 4 | DTYPES.index(t.quantized)
    return TENSOR.pack(
        direction,
        flags,
        t.layout,
        len(t.shape),
        t.zero_point,
        t.scale,
        t.region,
        t.offset,
        0,
        *t.dims,
        *_padded(t.shape),
        *_padded(t.order),
    )


def _unpack_tensor(name: str, record: tuple, where: str) -> tuple[int, Tensor]:
    direction, flags, layout, rank, zero_point, scale, region, offset, _ = record[:9]
    dims, shape, order = record[9:13], record[13:21], record[21:29]
    types = (flags >> 4, flags & 15)
    if (
        direction > 1
        or max(types) >= len(DTYPES)
        or layout not in set(Layout)
        or region not in set(Region)
        or rank > RANK
    ):
        raise SystolithError(f"{where}: tensor '{name}' must have a defined direction, type, layout, region and rank")
    return direction, Tensor(
        name,
        tuple(shape[:rank]),
        DTYPES[types[0]],
        Region(region),
        offset,
        tuple(dims),
        tuple(order[:rank]),
        Layout(layout),
        DTYPES[types[1]],
        scale,
        zero_point,
    )


def _padded(values: tuple[int, ...]) -> tuple[int, ...]:
    return (*values, *(0 for _ in range(RANK - len(values))))


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
