"""What an instruction touches, cell by cell, from its fields and its unit's constants; refuses what is out of bounds.

The checker's own view, on purpose apart from `access.py`. A cell is a word of activation, weight or parameter SRAM, an
accumulator half, or a granule of a memory region, so small that whole words have granules of their own.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import Instruction, Opcode, Region, Unit

__all__ = ["QUEUES", "WEIGHT_STAGE", "Cells", "touched_cells"]

QUEUES = 5
"""Units with a queue."""
WEIGHT_STAGE = QUEUES
"""Index of EXECUTE's weight stage among the starters; the others are units."""
ADDRESSES = 1 << 18
OFFSETS = 1 << 32


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells an instruction touches in one memory; `starter` is the unit or stage that must know that it may."""

    memory: str | Region
    write: bool
    cells: NDArray[np.int64]
    starter: int


def touched_cells(program: list[Instruction], config: Config, regions: Mapping[Region, int]) -> Iterator[list[Cells]]:
    constants: list[dict[str, int]] = [defaultdict(int) for _ in range(QUEUES)]
    kinds = {"LOAD.W": _load_weights, "LOAD.A": _load_activations, "EXECUTE": _execute, "SFU": _sfu, "STORE": _store}
    for index, instruction in enumerate(program):
        name = instruction.form.name
        if name in kinds:
            where = f"Instruction {index} ({name})"
            yield kinds[name](instruction, constants[instruction.unit], config, regions, where)
        else:
            if instruction.form.opcode == Opcode.CONFIG:
                constants[instruction.unit].update(instruction.values)
            yield []


def _load_weights(i: Instruction, _, config: Config, regions, where: str) -> list[Cells]:
    _positive(where, words=i["words"])
    _in_region(where, i["region"], np.array([i["offset"]]), i["words"] * config.array, regions)
    cells = i["sram"] + np.arange(i["words"])
    if i["target"]:
        cells = np.unique(_in_sram(where, cells, 8 * config.param_depth, "parameter") // 8)
        return [Cells("parameter SRAM", True, cells, Unit.LOAD_W)]
    return [Cells("weight SRAM", True, _in_sram(where, cells, config.weight_depth, "weight"), Unit.LOAD_W)]


def _load_activations(i: Instruction, c, config: Config, regions, where: str) -> list[Cells]:
    _positive(where, rows=i["rows"], cols=i["cols"], length=c["length"], step=c["step"])
    if c["lane"] + c["length"] > config.array:
        raise SystolithError(f"{where} must write lanes below {config.array}, not {c['lane']} + {c['length']}")
    lines = np.arange(i["rows"])
    found = [Cells("activation SRAM", True, _rectangle(where, i["sram"], i, c, config), Unit.LOAD_A)]
    y = i["y0"] + lines * c["row_step"]
    first = min(max(i["x0"], 0), c["row_bytes"])
    last = min(max(i["x0"] + (i["cols"] - 1) * c["step"] + c["length"], 0), c["row_bytes"])
    starts = (i["offset"] + lines[(y >= 0) & (y < c["height"])] * c["row_pitch"] + first) % OFFSETS
    if len(starts) and last > first:
        _in_region(where, i["region"], starts, last - first, regions)
        found.append(Cells(Region(i["region"]), False, _bytes(starts, last - first, config), Unit.LOAD_A))
    return found


def _execute(i: Instruction, c, config: Config, _, where: str) -> list[Cells]:
    _positive(where, rows=i["rows"], cols=i["cols"], kernel_y=c["kernel_y"], kernel_x=c["kernel_x"], blocks=c["blocks"])
    _in_half(where, i, config)
    words = c["kernel_y"] * c["kernel_x"] * c["blocks"] * config.array
    weights = _in_sram(where, i["weight"] + np.arange(words), config.weight_depth, "weight")
    y = _positions(i["y0"], i["rows"], c["stride_y"], c["kernel_y"], c["dilation_y"], c["height"])
    x = _positions(i["x0"], i["cols"], c["stride_x"], c["kernel_x"], c["dilation_x"], c["width"])
    blocks = np.arange(c["blocks"])[:, None, None] * c["block_stride"]
    found = [
        Cells("weight SRAM", False, weights, WEIGHT_STAGE),
        Cells("accumulators", True, np.array([i["acc"] // config.acc_half]), Unit.EXECUTE),
    ]
    if len(y) and len(x):
        cells = ((i["act"] + blocks + y[:, None] * c["row_stride"] + x) % ADDRESSES).ravel()
        found.append(
            Cells("activation SRAM", False, _in_sram(where, cells, config.act_depth, "activation"), Unit.EXECUTE)
        )
    return found


def _sfu(i: Instruction, c, config: Config, _, where: str) -> list[Cells]:
    _positive(where, rows=i["rows"], cols=i["cols"])
    _in_half(where, i, config)
    if i["mode"]:
        raise SystolithError(f"{where} must have mode 0, not {i['mode']}")
    return [
        Cells("accumulators", False, np.array([i["acc"] // config.acc_half]), Unit.SFU),
        Cells(
            "parameter SRAM", False, _in_sram(where, np.array([i["param"]]), config.param_depth, "parameter"), Unit.SFU
        ),
        Cells("activation SRAM", True, _rectangle(where, i["dst"], i, c, config), Unit.SFU),
    ]


def _store(i: Instruction, c, config: Config, regions, where: str) -> list[Cells]:
    _positive(where, rows=i["rows"], cols=i["cols"])
    starts = (i["offset"] + np.arange(i["rows"]) * c["row_pitch"]) % OFFSETS
    count = i["cols"] * config.array
    _in_region(where, i["region"], starts, count, regions)
    return [
        Cells("activation SRAM", False, _rectangle(where, i["sram"], i, c, config), Unit.STORE),
        Cells(Region(i["region"]), True, _bytes(starts, count, config), Unit.STORE),
    ]


def _positions(first: int, count: int, stride: int, taps: int, dilation: int, size: int) -> NDArray[np.int64]:
    """Positions inside the tensor that outputs and taps read along one axis."""
    found = (first + np.arange(count)[:, None] * stride + np.arange(taps) * dilation).ravel()
    found = found[(found >= 0) & (found < size)]
    return np.flatnonzero(np.bincount(found, minlength=1)) if len(found) else found


def _rectangle(where: str, first: int, i: Instruction, c, config: Config) -> NDArray[np.int64]:
    cells = (first + np.arange(i["rows"])[:, None] * c["row_stride"] + np.arange(i["cols"])).ravel()
    return _in_sram(where, cells, config.act_depth, "activation")


def _bytes(starts: NDArray[np.int64], count: int, config: Config) -> NDArray[np.int64]:
    """Granules of a region that `count` bytes from each start touch; whole words have granules of their own."""
    granule = gcd(config.array, 64)
    first, last = starts // granule, (starts + count - 1) // granule
    if (last - first == last[0] - first[0]).all():
        return (first[:, None] + np.arange(last[0] - first[0] + 1)).ravel()
    return np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])


# Refusals


def _positive(where: str, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise SystolithError(f"{where} must have {name} of at least 1, not {count}")


def _in_half(where: str, i: Instruction, config: Config) -> None:
    if i["acc"] >= config.acc_depth or i["acc"] % config.acc_half + i["rows"] * i["cols"] > config.acc_half:
        raise SystolithError(
            f"{where} must stay inside its accumulator half of {config.acc_half} rows, "
            f"not use {i['rows']} x {i['cols']} from row {i['acc']}"
        )


def _in_sram(where: str, cells: NDArray[np.int64], depth: int, name: str) -> NDArray[np.int64]:
    if int(cells.max()) >= depth:
        raise SystolithError(f"{where} must stay below word {depth} of {name} SRAM, not reach {int(cells.max())}")
    return cells


def _in_region(where: str, region: int, starts: NDArray[np.int64], count: int, regions: Mapping[Any, int]) -> None:
    limit, end = regions.get(region, 0), int(starts.max()) + count
    if end > limit:
        raise SystolithError(
            f"{where} must stay inside the {limit} bytes of region {_region_name(region)}, not reach byte {end}"
        )


def _region_name(region: int) -> str:
    return Region(region).name if region in set(Region) else str(region)
