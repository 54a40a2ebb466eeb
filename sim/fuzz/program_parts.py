"""Program files taken apart and put together again, with right checksums; JSON and instructions changed."""

import json
import struct
import zlib
from typing import Any

import numpy as np

from systolith.errors import SystolithError
from systolith.isa import INSTRUCTION_BYTES, decode, encode
from systolith.network import HEADER as CONTAINER
from systolith.network import MAGIC, RECORD, VERSION
from systolith.program import ALIGN, HEADER, SECTION, TENSOR
from systolith.sim.fuzz.damage import INTEGERS, REALS, TEXTS, damaged_bytes, pick

__all__ = ["changed_code", "changed_json", "changed_tensors", "joined_program", "joined_records", "sections"]


def sections(data: bytes) -> tuple[list[int], dict[int, bytes]]:
    """The header's numbers, and each section by its kind."""
    _, _, count, *numbers, _ = HEADER.unpack_from(data)
    entries = [SECTION.unpack_from(data, HEADER.size + i * SECTION.size) for i in range(count)]
    return numbers, {kind: data[offset : offset + size] for kind, _, offset, size in entries}


def joined_program(numbers: list[int], contents: dict[int, bytes]) -> bytes:
    """A program file of these."""
    table, body = b"", b""
    start = HEADER.size + len(contents) * SECTION.size
    for kind, content in contents.items():
        body += bytes(-(start + len(body)) % ALIGN)
        table += SECTION.pack(kind, zlib.crc32(content), start + len(body), len(content))
        body += content
    header = HEADER.pack(b"SYSTOLTH", 1, len(contents), *numbers, 0)[:-4]
    return header + struct.pack("<I", zlib.crc32(header + table)) + table + body


def joined_records(records: list[tuple[int, bytes]]) -> bytes:
    """A container of these records."""
    table = b"".join(RECORD.pack(kind, zlib.crc32(content), len(content)) for kind, content in records)
    header = CONTAINER.pack(MAGIC, VERSION, len(records), zlib.crc32(table), bytes(12))
    return b"".join([header, table, *(content for _, content in records)])


def changed_code(rng: np.random.Generator, code: bytes) -> bytes:
    """A field of an instruction changed, an instruction moved, removed or repeated, or a bit."""
    size = INSTRUCTION_BYTES
    parts = [code[i : i + size] for i in range(0, len(code), size)] or [bytes(size)]
    place, other = (int(rng.integers(len(parts))) for _ in range(2))
    match int(rng.integers(6)):
        case 0:
            parts[place] = damaged_bytes(rng, parts[place])[:size].ljust(size, b"\0")
        case 1:
            parts[place], parts[other] = parts[other], parts[place]
        case 2:
            del parts[place]
        case 3:
            parts.insert(place, parts[other])
        case _:
            parts[place] = _changed_instruction(rng, parts[place])
    return b"".join(parts)


def _changed_instruction(rng: np.random.Generator, data: bytes) -> bytes:
    try:
        instruction = decode(data)
    except SystolithError:
        return data
    names = ["wait", "signal", *instruction.values]
    name = pick(rng, names)
    field = next((field for field in instruction.form.fields if field.name == name), None)
    low, high = (field.low, field.high) if field else (0, 63)
    value = int(pick(rng, [low, high, low + 1, high - 1, int(rng.integers(low, high, endpoint=True, dtype=np.int64))]
                     if high < 1 << 62 else [low, high]))  # fmt: skip
    values = dict(instruction.values) | ({name: value} if field else {})
    masks = {"wait": instruction.wait, "signal": instruction.signal} | ({} if field else {name: value})
    return encode(type(instruction)(instruction.form, instruction.unit, values, **masks))


def changed_tensors(rng: np.random.Generator, data: bytes) -> bytes:
    """A number of a record changed, or a record removed, repeated or moved."""
    records = [list(record) for record in TENSOR.iter_unpack(data)]
    if not records:
        return bytes(TENSOR.size)
    place = int(rng.integers(len(records)))
    match int(rng.integers(5)):
        case 0:
            del records[place]
        case 1:
            records.append(records[place])
        case 2:
            records.reverse()
        case _:
            item = int(rng.integers(len(records[place])))
            records[place][item] = _changed_number(rng, item)
    return b"".join(TENSOR.pack(*record) for record in records)


def _changed_number(rng: np.random.Generator, item: int) -> Any:
    """A number for a place of a record: four bytes, a zero point, a scale, and so on."""
    if item == 5:
        value = np.float32(min(max(float(pick(rng, REALS)), -3e38), 3e38))
        return float(pick(rng, [value, np.float32("nan"), np.float32("inf"), np.float32(rng.uniform(0, 1))]))
    bits = 8 if item < 4 or item >= 21 else 64 if item in (7, 8) else 32
    small = int(rng.integers(0, 9))
    number = int(pick(rng, [*INTEGERS, *[small] * 20])) & (1 << bits) - 1
    return number - (1 << 32) if item == 4 and number >> 31 else number


def changed_json(rng: np.random.Generator, content: bytes) -> bytes:
    """A value anywhere in it changed, removed or repeated."""
    value = json.loads(content)
    if rng.random() < 0.05:
        depth = int(rng.choice([10, 500, 100_000]))
        return pick(rng, [b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"null", b"3", b"\xff"])
    holders = list(_holders(value))
    holder, key = pick(rng, holders)
    match int(rng.integers(4)):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.append(holder[key])
        case _:
            holder[key] = _json_value(rng, holder[key])
    return json.dumps(value).encode()


def _holders(value: Any):
    """Every list and object, with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _holders(value[key])


def _json_value(rng: np.random.Generator, old: Any) -> Any:
    same = [old + int(rng.integers(-3, 4)), *INTEGERS] if isinstance(old, int) else [*TEXTS]
    others = [None, True, [], {}, [old], {"a": old}, 1.5, float("nan"), 10**30, "\ud800", *TEXTS[:3], 1, 0, -1]
    return pick(rng, same if rng.random() < 0.6 else others)
