"""Accesses of an SFU instruction, and its need to `drain` the pipeline: the checker's own view."""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.check.cells import (
    ADDRESSES,
    Cells,
    check_half,
    check_most,
    check_positive,
    check_sram,
    grid,
    positions,
)
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import Instruction, Reduction, SecondOperand, SfuSource, Unit

__all__ = ["Drains", "sfu_cells"]


def sfu_cells(i: Instruction, c, config: Config, _, where: str) -> list[Cells]:
    """Cells of an SFU instruction; refuses a mode that does not exist, and one that reads what it has written."""
    check_positive(where, rows=i["rows"], cols=i["cols"], col_stride=c["output.col_stride"])
    check_positive(where, kernel_y=c["window.kernel_y"], kernel_x=c["window.kernel_x"])
    _check_mode(i, config, where)
    _check_limits(c, ["output", "add"] if i["second"] == SecondOperand.ADD else ["output"], where)
    param = check_sram(where, np.array([i["param"]]), config.param_depth, "parameter")
    written = grid(where, i["dst"], (i["rows"], c["output.row_stride"]), (i["cols"], c["output.col_stride"]))
    written = check_sram(where, written, config.act_depth, "activation")
    found = [
        Cells("parameter SRAM", False, param, Unit.SFU),
        Cells("activation SRAM", True, written, Unit.SFU),
        *_source(i, c, config, where),
    ]
    check_most(where, i["rows"] * i["cols"] * c["window.kernel_y"] * c["window.kernel_x"])
    if i["memory"] == SfuSource.ACTIVATIONS:
        _check_in_place(i, _windows(i, c), written, where)
    if i["second"] != SecondOperand.NONE:
        second = grid(where, i["operand"], (i["rows"], c["operand.row_stride"]), (i["cols"], c["operand.col_step"]))
        second = check_sram(where, second, config.act_depth, "activation")
        _check_in_place(i, second[:, None], written, where)
        found.append(Cells("activation SRAM", False, second, Unit.SFU))
    return found


class Drains:
    """Refuses an instruction that reads what one before it may still have in the pipeline."""

    def __init__(self, config: Config):
        self.written = np.full(config.act_depth, -1, np.int64)
        self.drained = 0

    def check(self, index: int, instruction: Instruction, found: list[Cells]) -> None:
        """The next instruction, and what it touches."""
        if instruction.unit != Unit.SFU:
            return
        if instruction.form.name == "CONFIG.SFU.table" or (found and instruction["drain"]):
            self.drained = index
        cells = [item for item in found if item.memory == "activation SRAM"]
        for item in cells:
            if not item.write and int(self.written[item.cells].max()) >= self.drained:
                raise SystolithError(
                    f"Instruction {index} (SFU) must drain the pipeline: it reads what instruction "
                    f"{int(self.written[item.cells].max())} writes"
                )
        for item in cells:
            if item.write:
                self.written[item.cells] = index


def _check_mode(i: Instruction, config: Config, where: str) -> None:
    if i["memory"] not in set(SfuSource) - (set() if config.dw_taps else {SfuSource.DEPTHWISE}):
        raise SystolithError(f"{where} must have a memory that exists, not {i['memory']}")
    maximum = i["memory"] == SfuSource.ACTIVATIONS and i["reduce"] == Reduction.MAXIMUM
    if i["second"] not in set(SecondOperand) or (i["second"] == SecondOperand.MULTIPLY and not maximum):
        raise SystolithError(
            f"{where} must have no second operand, add, or multiply with a maximum of activations, "
            f"not second {i['second']} with memory {i['memory']} and reduce {i['reduce']}"
        )


def _check_limits(c, groups: list[str], where: str) -> None:
    for group in groups:
        low, high = c[f"{group}.clamp_min"], c[f"{group}.clamp_max"]
        if low > high:
            raise SystolithError(f"{where} must have a clamp_min of at most clamp_max in {group}, not {low} and {high}")


def _source(i: Instruction, c, config: Config, where: str) -> list[Cells]:
    y, x = (_axis(i, c, axis) for axis in "yx")
    y, x = positions(*y), positions(*x)
    check_most(where, len(y) * len(x))
    cells = ((i["source"] + y[:, None] * c["input.row_stride"] + x) % ADDRESSES).ravel()
    if not len(cells):
        return []
    if i["memory"] == SfuSource.ACTIVATIONS:
        return [Cells("activation SRAM", False, check_sram(where, cells, config.act_depth, "activation"), Unit.SFU)]
    name = "accumulators" if i["memory"] == SfuSource.ACCUMULATORS else "depthwise accumulators"
    depth = config.acc_depth if i["memory"] == SfuSource.ACCUMULATORS else config.dw_depth
    half = check_half(where, int(cells.min()), int(cells.max()), depth)
    return [Cells(name, False, np.array([half]), Unit.SFU)]


def _axis(i: Instruction, c, axis: str) -> tuple[int, int, int, int, int, int]:
    """First position, outputs, stride, taps, dilation and size along an axis."""
    count, size = (i["rows"], c["input.height"]) if axis == "y" else (i["cols"], c["input.width"])
    window = (c[f"window.{name}_{axis}"] for name in ("stride", "kernel", "dilation"))
    return c[f"input.{axis}0"], count, *window, size


def _windows(i: Instruction, c) -> NDArray[np.int64]:
    """Words each output reads, [output, tap]; -1 for positions outside."""
    inside, offsets = [], []
    for axis, stride in (("y", c["input.row_stride"]), ("x", 1)):
        first, count, step, taps, dilation, size = _axis(i, c, axis)
        at = first + np.arange(count)[:, None] * step + np.arange(taps) * dilation
        inside.append((at >= 0) & (at < size))
        offsets.append(at * stride)
    there = inside[0][:, None, :, None] & inside[1][None, :, None, :]
    words = (i["source"] + offsets[0][:, None, :, None] + offsets[1][None, :, None, :]) % ADDRESSES
    return np.where(there, words, -1).reshape(i["rows"] * i["cols"], -1)


def _check_in_place(i: Instruction, read: NDArray[np.int64], written: NDArray[np.int64], where: str) -> None:
    """An output may take the place of a word that it or an earlier one reads, not of one that a later one reads."""
    if read.max() < written.min() or read.min() > written.max():
        return
    order = np.full(ADDRESSES + 1, len(written))
    order[written] = np.arange(len(written))
    early = order[read] < np.arange(len(read))[:, None]
    if (early & (read >= 0)).any():
        word = int(read[early & (read >= 0)][0])
        raise SystolithError(f"{where} must not write activation word {word} before it reads it")
