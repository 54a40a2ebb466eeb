"""What holds for every program, whoever wrote its file: `check_program` raises SystolithError for the rest.

Checksums only show accidents. So nothing is allocated, quantized, drawn or run before tensors, sizes and metadata have
been looked at here; a program that does not pass cannot be written either. Instructions are
`compiler/check/check.py`'s.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from systolith.errors import SystolithError
from systolith.isa import ADDRESS_BITS, INSTRUCTION_BYTES, Region
from systolith.json_fields import Item

if TYPE_CHECKING:
    from systolith.program import Program, Tensor

__all__ = ["LARGEST", "LARGEST_VALUES", "RANK", "check_meta", "check_program"]

LARGEST = 1 << 28
"""Bytes of inputs, outputs and scratch memory together."""
LARGEST_VALUES = 1 << 25
"""Elements of inputs and outputs together: a host has each as float32, and copies of it."""
RANK = 8
"""Dimensions of a tensor."""
KINDS = {("float32", "int8"), ("float32", "uint8"), ("int8", "int8"), ("uint8", "uint8")}
"""What a host has, and what it is quantized to."""
RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
LARGEST_SRAM = 1 << ADDRESS_BITS
"""Words of activation SRAM that instructions can address."""


def check_program(program: "Program", where: str) -> None:
    """Raises SystolithError, which starts with `where`, unless tensors and sizes are ones that a program can have."""
    if program.array % 4 or not 4 <= program.array <= 256:
        raise SystolithError(f"{where}: array size must be a multiple of 4 from 4 to 256, not {program.array}")
    for region, tensors in ((Region.INPUT, program.inputs), (Region.OUTPUT, program.outputs)):
        for tensor in tensors:
            _check_tensor(tensor, region, f"{where}: tensor '{tensor.name}'")
        _check_names(tensors, where)
    values = sum(math.prod(tensor.dims) for tensor in (*program.inputs, *program.outputs))
    if values > LARGEST_VALUES:
        raise SystolithError(
            f"{where}: inputs and outputs must have at most {LARGEST_VALUES} elements together, not {values}"
        )
    sizes = program.region_bytes()
    size = sizes[Region.INPUT] + sizes[Region.OUTPUT] + program.scratch_bytes
    if size > LARGEST:
        raise SystolithError(
            f"{where}: inputs, outputs and scratch memory must be at most {LARGEST} bytes together, not {size}"
        )
    _check_apart(program.inputs, program.array, where)


def check_meta(meta: Item, code: bytes) -> None:
    """Raises SystolithError for a field of META that is not as `Program` describes it. A layer has its name, operator,
    MACs and instructions; where there is "memory", also its words. Other fields may be left out."""
    if meta.has("model"):
        meta.text("model")
    if meta.has("notes"):
        meta.texts("notes")
    layers = meta.items("layers") if meta.has("layers") else []
    last = len(code) // INSTRUCTION_BYTES - 1
    for layer in layers:
        layer.text("name")
        layer.text("op")
        layer.integer("macs")
        layer.integer("last", layer.integer("first", 0, last), last)
    if meta.has("memory"):
        _check_memory(meta.item("memory"), layers)


def _check_memory(memory: Item, layers: Sequence[Item]) -> None:
    """The map of activation SRAM: everything lies inside."""
    size = memory.integer("words", 1, LARGEST_SRAM)
    memory.integer("banks", 1, size)
    memory.integer("peak_words", 0, size)
    for key in ("word_bytes", "scratch_bytes"):
        memory.integer(key)
    for layer in layers:
        words = layer.item("words")
        words.integer("used", 0, size)
        for start, count in words.pairs("staging"):
            words.require("staging", start + count <= size, f"inside {size} words")
    tensors = memory.item("tensors")
    for name in tensors.values:
        _check_place(tensors.item(name), size, len(layers))


def _check_place(tensor: Item, size: int, layers: int) -> None:
    """Where a tensor lies, in SRAM or in memory or both, and in which layers."""
    if tensor.given("sram"):
        start = tensor.integer("sram", 0, size)
        tensor.integer("words", 0, size - start)
    if tensor.given("region"):
        tensor.text("region", [region.name for region in Region])
        tensor.integer("offset")
    if tensor.given("sram") or tensor.values.get("region") == Region.SCRATCH.name:
        first, last = tensor.pair("layers")
        tensor.require("layers", first <= last < max(layers, 1), f"two of {layers} layers")
        tensor.integer("words")


def _check_tensor(tensor: "Tensor", region: Region, where: str) -> None:
    if tensor.region != region:
        raise SystolithError(f"{where} must lie in region {region.name}, not {tensor.region.name}")
    rank = len(tensor.shape)
    if rank > RANK or sorted(tensor.order) != list(range(rank)):
        raise SystolithError(
            f"{where} must have at most {RANK} dimensions, in an order that has each once, not {tensor.order}"
        )
    sizes = (*tensor.dims, *tensor.shape)
    if len(tensor.dims) != 4 or min(sizes) < 1 or math.prod(tensor.dims) != math.prod(tensor.shape):
        raise SystolithError(f"{where} must have as many elements as its place of {tensor.dims}, not {tensor.shape}")
    if (tensor.dtype, tensor.quantized) not in KINDS:
        raise SystolithError(
            f"{where} must be float32, int8 or uint8, and in 8 bits, not {tensor.dtype} as {tensor.quantized}"
        )
    if not (math.isfinite(tensor.scale) and tensor.scale > 0):
        raise SystolithError(f"{where} must have a scale above 0, not {tensor.scale}")
    low, high = RANGES[tensor.quantized]
    if not low <= tensor.zero_point <= high:
        raise SystolithError(f"{where} must have a zero point from {low} to {high}, not {tensor.zero_point}")


def _check_names(tensors: Sequence["Tensor"], where: str) -> None:
    seen = {""}
    for tensor in tensors:
        if tensor.name in seen:
            raise SystolithError(f"{where}: tensors must have names of their own, not '{tensor.name}'")
        seen.add(tensor.name)


def _check_apart(tensors: Sequence["Tensor"], array: int, where: str) -> None:
    """Raises SystolithError for two that share bytes."""
    places = sorted((t.offset, t.offset + t.stored_bytes(array), t.name) for t in tensors)
    for (_, end, first), (start, _, second) in pairwise(places):
        if start < end:
            raise SystolithError(f"{where}: tensors '{first}' and '{second}' must not share memory")
