"""Accesses of one instruction, cell by cell, from its fields and its unit's constants; refuses what is out of bounds.

This is the checker's own view. It is separate from `compiler/order/access.py` on purpose.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.check.cells import (
    ADDRESSES,
    OFFSETS,
    WEIGHT_STAGE,
    Cells,
    bytes_of,
    check_half,
    check_most,
    check_positive,
    check_region,
    check_sram,
    grid,
    positions,
    span,
)
from systolith.compiler.check.sfu import sfu_cells
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import UNITS, Instruction, LoadTarget, Opcode, Region, Unit

__all__ = ["touched_cells"]


def touched_cells(program: list[Instruction], config: Config, regions: Mapping[Region, int]) -> Iterator[list[Cells]]:
    """For each instruction what it touches. Constants are known as "group.field"."""
    constants: list[dict[str, int]] = [defaultdict(int) for _ in range(UNITS)]
    kinds = {
        "LOAD.W": _load_weights,
        "LOAD.A": _load_activations,
        "EXECUTE": _execute,
        "SFU": sfu_cells,
        "STORE": _store,
        "DEPTHWISE": _depthwise,
    }
    for index, instruction in enumerate(program):
        name = instruction.form.name
        where = f"Instruction {index} ({name})"
        if instruction.unit == Unit.DEPTHWISE and not config.dw_taps:
            raise SystolithError(f"{where} must run on a configuration with a depthwise unit, dw_taps is 0")
        if name in kinds:
            yield kinds[name](instruction, constants[instruction.unit], config, regions, where)
        else:
            if instruction.form.opcode == Opcode.CONFIG:
                group = name.split(".")[-1]
                constants[instruction.unit].update({f"{group}.{k}": v for k, v in instruction.values.items()})
            yield []


def _load_weights(i: Instruction, _, config: Config, regions, where: str) -> list[Cells]:
    check_positive(where, words=i["words"])
    check_region(where, i["region"], np.array([i["offset"]]), i["words"] * config.array, regions)
    if i["target"] == LoadTarget.PARAMETERS:
        cells = np.unique(span(where, i["sram"], i["words"], 8 * config.param_depth, "parameter") // 8)
        written = Cells("parameter SRAM", True, cells, Unit.LOAD_W)
    else:
        cells = span(where, i["sram"], i["words"], config.weight_depth, "weight")
        written = Cells("weight SRAM", True, cells, Unit.LOAD_W)
    read = bytes_of(where, np.array([i["offset"]]), i["words"] * config.array, config)
    return [written, Cells(Region(i["region"]), False, read, Unit.LOAD_W)]


def _load_activations(i: Instruction, c, config: Config, regions, where: str) -> list[Cells]:
    check_positive(where, rows=i["rows"], cols=i["cols"], length=c["window.length"], step=c["window.step"])
    if c["window.lane"] + c["window.length"] > config.array:
        raise SystolithError(
            f"{where} must write lanes below {config.array}, not {c['window.lane']} + {c['window.length']}"
        )
    lines = np.arange(i["rows"])
    found = [Cells("activation SRAM", True, _rectangle(where, i, c["window.row_stride"], config), Unit.LOAD_A)]
    y = i["y0"] + lines * c["source.row_step"]
    first = min(max(i["x0"], 0), c["source.row_bytes"])
    last = min(max(i["x0"] + (i["cols"] - 1) * c["window.step"] + c["window.length"], 0), c["source.row_bytes"])
    starts = (i["offset"] + lines[(y >= 0) & (y < c["source.height"])] * c["source.row_pitch"] + first) % OFFSETS
    if len(starts) and last > first:
        check_region(where, i["region"], starts, last - first, regions)
        found.append(Cells(Region(i["region"]), False, bytes_of(where, starts, last - first, config), Unit.LOAD_A))
    return found


def _execute(i: Instruction, c, config: Config, _, where: str) -> list[Cells]:
    check_positive(where, rows=i["rows"], cols=i["cols"])
    check_positive(where, kernel_y=c["kernel.kernel_y"], kernel_x=c["kernel.kernel_x"], blocks=c["kernel.blocks"])
    half = check_half(where, i["acc"], i["acc"] + i["rows"] * i["cols"] - 1, config.acc_depth)
    words = c["kernel.kernel_y"] * c["kernel.kernel_x"] * c["kernel.blocks"] * config.array
    weights = span(where, i["weight"], words, config.weight_depth, "weight")
    found = [
        Cells("weight SRAM", False, weights, WEIGHT_STAGE),
        Cells("accumulators", True, np.array([half]), Unit.EXECUTE),
    ]
    cells = _input(i, c, where)
    check_most(where, len(cells) * c["kernel.blocks"])
    if len(cells):
        blocks = np.arange(c["kernel.blocks"])[:, None] * c["input.block_stride"]
        cells = ((blocks + cells) % ADDRESSES).ravel()
        cells = check_sram(where, cells, config.act_depth, "activation")
        found.append(Cells("activation SRAM", False, cells, Unit.EXECUTE))
    return found


def _depthwise(i: Instruction, c, config: Config, _, where: str) -> list[Cells]:
    check_positive(where, rows=i["rows"], cols=i["cols"], kernel_y=c["kernel.kernel_y"], kernel_x=c["kernel.kernel_x"])
    half = check_half(where, i["acc"], i["acc"] + i["rows"] * i["cols"] - 1, config.dw_depth)
    weights = span(where, i["weight"], c["kernel.kernel_y"] * c["kernel.kernel_x"], config.weight_depth, "weight")
    found = [
        Cells("weight SRAM", False, weights, Unit.DEPTHWISE),
        Cells("depthwise accumulators", True, np.array([half]), Unit.DEPTHWISE),
    ]
    cells = _input(i, c, where) % ADDRESSES
    if len(cells):
        cells = check_sram(where, cells, config.act_depth, "activation")
        found.append(Cells("activation SRAM", False, cells, Unit.DEPTHWISE))
    return found


def _store(i: Instruction, c, config: Config, regions, where: str) -> list[Cells]:
    check_positive(where, rows=i["rows"], cols=i["cols"])
    starts = (i["offset"] + np.arange(i["rows"]) * c["target.row_pitch"]) % OFFSETS
    count = i["cols"] * config.array
    check_region(where, i["region"], starts, count, regions)
    if i["region"] == Region.CODE:
        raise SystolithError(f"{where} must not write region CODE, which is read ahead of it")
    return [
        Cells("activation SRAM", False, _rectangle(where, i, c["target.row_stride"], config), Unit.STORE),
        Cells(Region(i["region"]), True, bytes_of(where, starts, count, config), Unit.STORE),
    ]


def _input(i: Instruction, c, where: str) -> NDArray[np.int64]:
    """Words of the first channel block that a convolution reads, before they wrap."""
    (y, x) = (
        positions(
            i[f"{axis}0"],
            i[count],
            c[f"kernel.stride_{axis}"],
            c[f"kernel.kernel_{axis}"],
            c[f"kernel.dilation_{axis}"],
            c[f"input.{size}"],
        )
        for axis, count, size in (("y", "rows", "height"), ("x", "cols", "width"))
    )
    check_most(where, len(y) * len(x))
    return (i["act"] + y[:, None] * c["input.row_stride"] + x).ravel()


def _rectangle(where: str, i: Instruction, row_stride: int, config: Config) -> NDArray[np.int64]:
    cells = grid(where, i["sram"], (i["rows"], row_stride), (i["cols"], 1))
    return check_sram(where, cells, config.act_depth, "activation")
