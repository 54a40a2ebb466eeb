"""What an SFU instruction does: windows of accumulators or activations, through the pipeline, to activation SRAM.

Instructions come checked (`checks.py`). Of what is wrong with an access the first is refused: outputs in order, in
each the taps of its window in order, then the second operand; the word that is written counts from the first tap on.

`State.recent` marks words of activation SRAM that SFU instructions wrote since one with `drain`. A later one without
`drain` that reads such a word may find in hardware what was there before; here it reads inverted bits, so that the
result shows it. The same goes for an instruction that reads what it wrote for an earlier output.
"""

import math

import numpy as np
from numpy.typing import NDArray

from systolith.isa import Instruction, Reduction, SecondOperand, SfuSource
from systolith.numerics import add, look_up, requantize
from systolith.sim.isa.checks import Constants
from systolith.sim.isa.state import Refused, State, require
from systolith.sim.isa.windows import PADDING, window_words

__all__ = ["fill_table", "sfu"]

ROOM = 1 << 20
"""Values of windows gathered at a time."""
Place = tuple[float, int]
"""A step of an instruction: number of the output, and of the tap in its window."""
NEVER: Place = (math.inf, 0)


def fill_table(state: State, i: Instruction) -> None:
    """CONFIG.SFU.table: eight entries, when everything before is done."""
    state.recent[:] = False
    state.table[8 * i["index"] : 8 * i["index"] + 8] = np.frombuffer(i["entries"].to_bytes(8, "little"), np.int8)


def sfu(state: State, i: Instruction, c: Constants) -> None:
    """SFU: reduce, multiply, requantize, add, look up, write."""
    if i["drain"]:
        state.recent[:] = False
    output, operand = c["output"], c["operand"]
    targets = _grid(i["dst"], output["row_stride"], output["col_stride"], i)
    stops = _first_beyond(state, i, c, targets)
    if stops != NEVER:
        targets = targets[:0]
    written = _write_order(state, targets)
    bias, scale = _parameters(state, i["param"])

    values = _reduce(state, i, c, written, stops)
    other = _operand(state, i, c, written) if i["second"] != SecondOperand.NONE else np.int8(0)
    if i["second"] == SecondOperand.MULTIPLY:
        values = (values - operand["zero_a"]) * (other.astype(np.int32) - operand["zero_b"])
    with np.errstate(over="ignore"):
        values = values + bias
    limits = output["zero_point"], output["clamp_min"], output["clamp_max"]
    result = requantize(values, scale, *limits, joint=i["second"] == SecondOperand.MULTIPLY)
    if i["second"] == SecondOperand.ADD:
        constants = c["add"]["multiplier_a"], c["add"]["multiplier_b"], c["add"]["shift"]
        limits = c["add"]["zero_point"], c["add"]["clamp_min"], c["add"]["clamp_max"]
        result = add(result, np.asarray(other), (operand["zero_a"], operand["zero_b"]), constants, *limits)
    if output["lookup"]:
        result = look_up(result, state.table)
    state.act[targets] = result
    state.recent[targets] = True


def _first_beyond(state: State, i: Instruction, c: Constants, targets: NDArray[np.int64]) -> Place:
    """The first step whose output, or second operand, activation SRAM does not have."""
    last_tap = c["window"]["kernel_y"] * c["window"]["kernel_x"] - 1
    grids = [(targets, 0)]
    if i["second"] != SecondOperand.NONE:
        grids.append((_grid(i["operand"], c["operand"]["row_stride"], c["operand"]["col_step"], i), last_tap))
    found = [(int(beyond.argmax()), tap) for words, tap in grids if (beyond := words >= state.config.act_depth).any()]
    return min(found, default=NEVER)


def _memory(state: State, i: Instruction) -> NDArray:
    """The memory that windows slide over; its last word is padding."""
    return state.windowed(i["memory"])


def _parameters(state: State, param: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    word = state.params[8 * param : 8 * param + 8].reshape(state.config.array, 8)
    return word[:, :4].copy().view("<i4")[:, 0], word[:, 4:].copy().view("<f4")[:, 0]


def _grid(first: int, row_stride: int, step: int, i: Instruction) -> NDArray[np.int64]:
    """A word for each output, [rows, cols]."""
    oy, ox = np.ogrid[: i["rows"], : i["cols"]]
    return first + oy * row_stride + ox * step


def _write_order(state: State, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each word of activation SRAM the first output written to it; a number beyond all outputs for the others."""
    order = np.full(state.config.act_depth + 1, targets.size)
    order[targets.reshape(-1)[::-1]] = np.arange(targets.size)[::-1]
    return order


def _reduce(state: State, i: Instruction, c: Constants, written: NDArray[np.int64], stops: Place) -> NDArray[np.int32]:
    """Maxima or sums of the windows, [rows, cols, N], a few rows at a time; refused at step `stops` at the latest."""
    rows, cols, source, window = i["rows"], i["cols"], c["input"], c["window"]
    memory = _memory(state, i)
    memory[PADDING] = source["pad"]
    step = max(1, ROOM // (cols * window["kernel_y"] * window["kernel_x"] * state.config.array))
    parts = []
    for first in range(0, rows, step):
        some = range(first, min(first + step, rows))
        words = window_words(source, window, (i["source"], source["y0"], source["x0"]), some, cols)
        words = words.reshape(len(some), cols, -1)
        _check_windows(state, i, words, first * cols, stops)
        if i["memory"] == SfuSource.ACTIVATIONS:
            outputs = np.arange(first * cols, some.stop * cols).reshape(len(some), cols, 1)
            values = _read(state, words, outputs, written)
        else:
            values = memory[words]
        parts.append(values.max(axis=2) if i["reduce"] == Reduction.MAXIMUM else values.sum(axis=2, dtype=np.int32))
    return np.concatenate(parts).astype(np.int32)


def _check_windows(state: State, i: Instruction, words: NDArray[np.int64], first: int, stops: Place) -> None:
    """Refuse what is wrong with windows, of which the first one is that of output `first`, up to step `stops`."""
    if i["memory"] == SfuSource.ACTIVATIONS:
        require(int(words.max()) < state.config.act_depth, "SRAM_RANGE")
    else:
        half = (len(_memory(state, i)) - 1) // 2
        outside = (words != PADDING) & (words // half != i["source"] // half)
        if outside.any():
            output, tap = divmod(int(outside.argmax()), words.shape[-1])
            raise Refused("OPERAND" if (first + output, tap) <= stops else "SRAM_RANGE")
    require(first + words.shape[0] * words.shape[1] <= stops[0], "SRAM_RANGE")


def _operand(state: State, i: Instruction, c: Constants, written: NDArray[np.int64]) -> NDArray[np.int8]:
    words = _grid(i["operand"], c["operand"]["row_stride"], c["operand"]["col_step"], i)
    return _read(state, words, np.arange(words.size).reshape(words.shape), written)


def _read(state: State, words: NDArray, outputs: NDArray, written: NDArray[np.int64]) -> NDArray[np.int8]:
    """Words of activation SRAM; garbage where their value may still be on its way when `outputs` are computed."""
    values = state.act[words]
    late = state.recent[words] | (written[words] < outputs)
    return np.where(late[..., None], ~values, values) if late.any() else values
