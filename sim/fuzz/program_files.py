"""Program files (.slp), of one program and of networks in parts.

With checksums as they were, every change is refused. With new checksums, whatever is taken runs without a fault, and
where its result is another one, the check sees it.
"""

import struct
from functools import cache
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError, EncodeError
from numpy.typing import NDArray
from onnx import ModelProto

from systolith.cli.run import load_network
from systolith.compiler.network import compile_network
from systolith.config import PRESETS
from systolith.errors import SystolithError
from systolith.network import Network, Record, from_bytes, load, to_bytes
from systolith.program import Program, Section
from systolith.program import to_bytes as program_to_bytes
from systolith.sim.compare.outputs import check
from systolith.sim.fuzz import models, protobuf
from systolith.sim.fuzz.case import Case, Wrong
from systolith.sim.fuzz.damage import INTEGERS, damaged_bytes, few, pick
from systolith.sim.fuzz.program_parts import (
    changed_code,
    changed_json,
    changed_tensors,
    joined_program,
    joined_records,
    sections,
)
from systolith.sim.host.fault import HardwareFault
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs

__all__ = ["judge", "make_network", "make_program"]

TINY = PRESETS["tiny4"]
INPUTS_SEED = 1


def make_program(seed: int) -> Case:
    """A file of one program, changed."""
    rng = np.random.default_rng(seed)
    index = int(pick(rng, _seeds(Program)))
    data = _file(index)
    if rng.random() < 0.2:
        return Case(damaged_bytes(rng, data), ".slp", "bytes", {"index": index, "kept": True})
    changes = []
    for _ in range(few(rng)):
        data, change = _changed_program(rng, data)
        changes.append(change)
    return Case(data, ".slp", ", ".join(changes), {"index": index, "kept": False})


def make_network(seed: int) -> Case:
    """A file of a network in parts, changed."""
    rng = np.random.default_rng(seed)
    index = int(pick(rng, _seeds(Network)))
    data = _file(index)
    if rng.random() < 0.2:
        return Case(damaged_bytes(rng, data), ".slp", "bytes", {"index": index, "kept": True})
    records = _records(data)
    changes = []
    for _ in range(few(rng)):
        place = int(rng.integers(len(records)))
        kind, content = records[place]
        match int(rng.integers(12)):
            case 0:
                del records[place]
            case 1:
                records.insert(place, pick(rng, records))
            case 2:
                records[place] = (int(rng.integers(0, 6)), content)
            case _:
                content, change = _changed_record(rng, kind, content)
                records[place] = (kind, content)
                changes.append(change)
        records = records or [(Record.META, b"{}")]
    return Case(joined_records(records), ".slp", ", ".join(changes), {"index": index, "kept": False})


def judge(case: Case, folder: Path) -> str:
    """Load it, run it on the instruction simulator, and compare."""
    path = folder / "case.slp"
    path.write_bytes(case.data)
    original = _loaded(case.facts["index"])
    if case.facts["kept"]:
        if load(path) != original:
            raise Wrong("a change was not seen, though checksums are as they were")
        return "the same"
    network = load_network(path, TINY, 1)
    same = network.model == original.model  # What the check compares with.
    inputs = random_inputs(original if same else network, INPUTS_SEED)
    try:
        outputs, _ = run(network, inputs, TINY, "isa")
    except HardwareFault as fault:
        raise Wrong(f"{case.change}: passed the checker, and stopped: {fault}") from None
    found = check(network, inputs, outputs)
    if not same:
        return "another model"
    expected = _result(case.facts["index"])
    equal = outputs.keys() == expected.keys() and all(_equal(outputs[name], expected[name]) for name in expected)
    if found.passed and not equal:
        raise Wrong(f"{case.change}: another result, and the check passed")
    return "right" if equal else "seen by the check"


def _equal(a: NDArray, b: NDArray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _changed_program(rng: np.random.Generator, data: bytes) -> tuple[bytes, str]:
    """One change of a program file, with new checksums, and its name."""
    numbers, contents = sections(data)
    kind = Section(int(rng.choice([1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5])))
    if rng.random() < 0.05:
        numbers[int(rng.integers(len(numbers)))] = int(pick(rng, INTEGERS)) & (1 << 32) - 1
        return joined_program(numbers, contents), "header"
    changers = {
        Section.CODE: changed_code,
        Section.WEIGHTS: damaged_bytes,
        Section.TENSORS: changed_tensors,
        Section.META: changed_json,
        Section.MODEL: _changed_model,
    }
    if contents.get(kind):
        try:
            contents[kind] = changers[kind](rng, contents[kind])
        except (ValueError, RecursionError, struct.error):  # Changed before, and no such thing any more.
            contents[kind] = damaged_bytes(rng, contents[kind])
    return joined_program(numbers, contents), kind.name


def _changed_record(rng: np.random.Generator, kind: int, content: bytes) -> tuple[bytes, str]:
    """One change of a record of a container, and its name."""
    try:
        match kind:
            case Record.PROGRAM:
                content, change = _changed_program(rng, content)
                return content, f"PROGRAM {change}"
            case Record.META:
                return changed_json(rng, content), "META"
            case _:
                return _changed_model(rng, content), Record(kind).name
    except (ValueError, KeyError, IndexError, RecursionError, struct.error):  # As above.
        return damaged_bytes(rng, content), "bytes"


def _changed_model(rng: np.random.Generator, content: bytes) -> bytes:
    try:
        model = ModelProto.FromString(content)
        protobuf.damage(rng, model)
        return model.SerializeToString()
    except (DecodeError, EncodeError, ValueError):
        return damaged_bytes(rng, content)


def _records(data: bytes) -> list[tuple[int, bytes]]:
    from systolith.network import HEADER, RECORD

    count = HEADER.unpack_from(data)[2]
    end, records = HEADER.size + count * RECORD.size, []
    for index in range(count):
        kind, _, size = RECORD.unpack_from(data, HEADER.size + index * RECORD.size)
        records.append((kind, data[end : end + size]))
        end += size
    return records


@cache
def _compiled(index: int) -> Program | Network | None:
    try:
        return compile_network(models.seed_model(index), TINY)
    except SystolithError:
        return None  # Not every random model has something for the accelerator.


@cache
def _seeds(kind: type) -> tuple[int, ...]:
    """Seed models that compile to a program alone, or to a network."""
    return tuple(index for index in range(models.COUNT) if isinstance(_compiled(index), kind))


@cache
def _file(index: int) -> bytes:
    network = _compiled(index)
    assert network is not None
    return to_bytes(network) if isinstance(network, Network) else program_to_bytes(network)


@cache
def _loaded(index: int) -> Program | Network:
    from systolith import program

    data = _file(index)
    return from_bytes(data) if isinstance(_compiled(index), Network) else program.from_bytes(data)


@cache
def _result(index: int) -> dict[str, NDArray]:
    network = _loaded(index)
    return run(network, random_inputs(network, INPUTS_SEED), TINY, "isa")[0]
