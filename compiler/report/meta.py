"""META, the description of a program: kind, work and cost of each layer, and the place of each tensor in its life."""

from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from typing import Any

from systolith.compiler.ir.graph import Conv, Graph, Layer, SfuOp
from systolith.compiler.plan.plan import Planned, Planning
from systolith.compiler.schedule.staging import staging
from systolith.config import Config
from systolith.isa import Unit

__all__ = ["UNITS", "describe"]

UNITS = {Unit.EXECUTE: "array", Unit.DEPTHWISE: "depthwise", Unit.SFU: "sfu"}


def describe(graph: Graph, planning: Planning, owners: Sequence[int], config: Config) -> dict[str, Any]:
    """META as JSON has it. `owners`: the layer of each instruction."""
    spans: dict[int, tuple[int, int]] = {}
    for index, owner in enumerate(owners):
        spans[owner] = (spans.get(owner, (index, index))[0], index)
    layers = [
        _layer(graph, item, config, planning.memory.taken[index], spans[index])
        for index, item in enumerate(planning.planned)
    ]
    memory = {"peak_words": max((layer["words"]["used"] for layer in layers), default=0), **_memory(planning, config)}
    return {"model": graph.name, "layers": layers, "memory": memory, "notes": list(graph.notes)}


def _layer(graph: Graph, item: Planned, config: Config, taken: int, span: tuple[int, int]) -> dict[str, Any]:
    layer, plan = item.job.layer, item.plan
    buffers = [list(part) for part in staging(item, config)]
    return {
        "name": layer.name,
        "op": layer.op,
        "fused": [name for name in ("pool", "add", "table") if isinstance(layer, Conv) and _has(layer, name)],
        "unit": UNITS[item.job.unit],
        "macs": layer.macs(graph),
        "ops": _operations(graph, layer),
        "first": span[0],
        "last": span[1],
        "estimate": asdict(plan.costs),
        "packing": item.job.packing,
        "keep": plan.keep.value,
        "words": {"used": taken + sum(words for _, words in buffers), "staging": buffers},
    }


def _memory(planning: Planning, config: Config) -> dict[str, Any]:
    memory = planning.memory
    tensors = {
        name: {
            "sram": place.sram,
            "words": memory.lives[name].words if name in memory.lives else None,
            "layers": [memory.lives[name].first, memory.lives[name].last] if name in memory.lives else None,
            "region": place.region.name if place.region is not None else None,
            "offset": place.offset,
        }
        for name, place in memory.places.items()
    }
    return {
        "words": config.act_depth,
        "word_bytes": config.array,
        "banks": config.act_banks,
        "scratch_bytes": memory.scratch_bytes,
        "tensors": tensors,
    }


def _operations(graph: Graph, layer: Layer) -> int:
    """Values that the SFU reads to make the output: positions of windows, and second operands."""
    outputs = prod(graph.values[layer.output].dims)
    window = layer.window if isinstance(layer, SfuOp) else layer.pool if isinstance(layer, Conv) else None
    second = len(layer.inputs) > 1
    return outputs * ((prod(window.kernel) if window else 1) + second)


def _has(layer: Conv, name: str) -> bool:
    return getattr(layer, name) is not None
