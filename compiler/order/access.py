"""Accesses of a step, reads and writes: boxes of cells in a memory, one function for each kind of instruction.

A cell is a word of activation, weight or parameter SRAM, a half of the accumulators (of the array, or of the depthwise
unit), or a granule of a memory region (the largest power of two that divides every address of a blocked tensor). A box
may be larger than the cells that are touched, never smaller.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np

from systolith.compiler.plan.placement import ALIGN
from systolith.compiler.schedule.step import Step
from systolith.config import Config
from systolith.isa import LoadTarget, Region, SecondOperand, SfuSource, Unit

__all__ = ["STAGE_WEIGHTS", "UNIT_OF", "Access", "accesses"]

UNIT_OF = {
    "LOAD.W": Unit.LOAD_W,
    "LOAD.A": Unit.LOAD_A,
    "EXECUTE": Unit.EXECUTE,
    "SFU": Unit.SFU,
    "STORE": Unit.STORE,
    "DEPTHWISE": Unit.DEPTHWISE,
}
STAGE_WEIGHTS = "weights"
"""The memory that EXECUTE reads in its weight stage, which waits for LOAD_W alone."""


@dataclass(frozen=True)
class Access:
    """Cells start + sum of i * stride for all i < count, over the (count, stride) of `dims`."""

    memory: str | Region
    write: bool
    start: int
    dims: tuple[tuple[int, int], ...]

    @property
    def end(self) -> int:
        return self.start + sum((count - 1) * stride for count, stride in self.dims) + 1

    def view(self, cells: np.ndarray) -> np.ndarray:
        """Its cells in an array of all cells of the memory, without a copy."""
        size = cells.itemsize
        strides = [stride * size for _, stride in self.dims]
        return np.ndarray([count for count, _ in self.dims], cells.dtype, cells, self.start * size, strides)


def accesses(step: Step, config: Config) -> list[Access]:
    """Every access of a step to something that another unit writes."""
    return _KINDS[step.name](step.fields, step.constants, config)


def _load_weights(f: Mapping[str, int], _, config: Config) -> list[Access]:
    if f["target"] == LoadTarget.PARAMETERS:
        return [Access("parameters", True, f["sram"] // 8, ((-(-f["words"] // 8), 1),))]
    return [Access(STAGE_WEIGHTS, True, f["sram"], ((f["words"], 1),))]


def _load_activations(f: Mapping[str, int], constants, config: Config) -> list[Access]:
    window = constants["CONFIG.LOAD_A.window"]
    found = [Access("activations", True, f["sram"], ((f["rows"], window["row_stride"]), (f["cols"], 1)))]
    if f["region"] != Region.INPUT:
        pitch = constants["CONFIG.LOAD_A.source"]["row_pitch"]
        # Windows may lie apart; the bytes between them are read, too.
        found.append(_memory(f, pitch, (f["cols"] - 1) * window["step"] + window["length"], False, config))
    return found


def _execute(f: Mapping[str, int], constants, config: Config) -> list[Access]:
    i, k = constants["CONFIG.EXECUTE.input"], constants["CONFIG.EXECUTE.kernel"]
    tiles = k["kernel_y"] * k["kernel_x"] * k["blocks"]
    return [
        Access(STAGE_WEIGHTS, False, f["weight"], ((tiles * config.array, 1),)),
        Access(
            "activations",
            False,
            f["act"],
            ((k["blocks"], i["block_stride"]), (i["height"], i["row_stride"]), (i["width"], 1)),
        ),
        Access("accumulators", True, f["acc"] // config.acc_half, ((1, 1),)),
    ]


def _depthwise(f: Mapping[str, int], constants, config: Config) -> list[Access]:
    i, k = constants["CONFIG.DEPTHWISE.input"], constants["CONFIG.DEPTHWISE.kernel"]
    return [
        Access(STAGE_WEIGHTS, False, f["weight"], ((k["kernel_y"] * k["kernel_x"], 1),)),
        Access("activations", False, f["act"], ((i["height"], i["row_stride"]), (i["width"], 1))),
        Access("depthwise accumulators", True, f["acc"] // config.dw_half, ((1, 1),)),
    ]


def _sfu(f: Mapping[str, int], constants, config: Config) -> list[Access]:
    o, i = constants["CONFIG.SFU.output"], constants["CONFIG.SFU.input"]
    if f["memory"] == SfuSource.ACTIVATIONS:
        source = Access("activations", False, f["source"], ((i["height"], i["row_stride"]), (i["width"], 1)))
    elif f["memory"] == SfuSource.ACCUMULATORS:
        source = Access("accumulators", False, f["source"] // config.acc_half, ((1, 1),))
    else:
        source = Access("depthwise accumulators", False, f["source"] // config.dw_half, ((1, 1),))
    found = [source, Access("parameters", False, f["param"], ((1, 1),))]
    if f["second"] != SecondOperand.NONE:
        c = constants["CONFIG.SFU.operand"]
        rows = (f["rows"] if c["row_stride"] else 1), c["row_stride"]
        cols = (f["cols"] if c["col_step"] else 1), c["col_step"]
        found.append(Access("activations", False, f["operand"], (rows, cols)))
    return [*found, Access("activations", True, f["dst"], ((f["rows"], o["row_stride"]), (f["cols"], o["col_stride"])))]


def _store(f: Mapping[str, int], constants, config: Config) -> list[Access]:
    target = constants["CONFIG.STORE.target"]
    return [
        Access("activations", False, f["sram"], ((f["rows"], target["row_stride"]), (f["cols"], 1))),
        _memory(f, target["row_pitch"], f["cols"] * config.array, True, config),
    ]


def _memory(f: Mapping[str, int], pitch: int, size: int, write: bool, config: Config) -> Access:
    """Rows of `size` bytes."""
    granule = gcd(config.array, ALIGN)
    dims = (f["rows"], pitch // granule), (size // granule, 1)
    return Access(Region(f["region"]), write, f["offset"] // granule, dims)


_KINDS: dict[str, Callable] = {
    "LOAD.W": _load_weights,
    "LOAD.A": _load_activations,
    "EXECUTE": _execute,
    "SFU": _sfu,
    "STORE": _store,
    "DEPTHWISE": _depthwise,
}
