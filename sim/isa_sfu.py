"""What an SFU instruction does: windows of accumulators or activations, through the pipeline, to activation SRAM.

`State.recent` marks words of activation SRAM that SFU instructions wrote since one with `drain`. A later one without
`drain` that reads such a word may find in hardware what was there before; here it reads inverted bits, so that the
result shows it. The same goes for an instruction that reads what it wrote for an earlier output.
"""

import numpy as np
from numpy.typing import NDArray

from systolith.isa import Instruction
from systolith.numerics import add, look_up, requantize
from systolith.sim.isa_state import State, require
from systolith.sim.isa_units import Constants
from systolith.sim.isa_windows import PADDING, window_words

__all__ = ["fill_table", "sfu"]

ACCUMULATORS, ACTIVATIONS, DEPTHWISE = range(3)
MAXIMUM, SUM = range(2)
NONE, ADD, MULTIPLY = range(3)
ROOM = 1 << 20
"""Values of windows gathered at a time."""


def fill_table(state: State, i: Instruction) -> None:
    """CONFIG.SFU.table: eight entries, when everything before is done."""
    state.recent[:] = False
    state.table[8 * i["index"] : 8 * i["index"] + 8] = np.frombuffer(i["entries"].to_bytes(8, "little"), np.int8)


def sfu(state: State, i: Instruction, c: Constants) -> None:
    """SFU: reduce, multiply, requantize, add, look up, write."""
    _check(state, i, c)
    if i["drain"]:
        state.recent[:] = False
    output, operand = c["output"], c["operand"]
    targets = _grid(i["dst"], output["row_stride"], output["col_stride"], i)
    require(int(targets[-1, -1]) < state.config.act_depth, "SRAM_RANGE")
    written = _write_order(state, targets)
    bias, scale = _parameters(state, i["param"])

    values = _reduce(state, i, c, written)
    other = _operand(state, i, c, written) if i["second"] else np.int8(0)
    if i["second"] == MULTIPLY:
        values = (values - operand["zero_a"]) * (other.astype(np.int32) - operand["zero_b"])
    with np.errstate(over="ignore"):
        values = values + bias
    limits = output["zero_point"], output["clamp_min"], output["clamp_max"]
    result = requantize(values, scale, *limits, joint=i["second"] == MULTIPLY)
    if i["second"] == ADD:
        constants = c["add"]["multiplier_a"], c["add"]["multiplier_b"], c["add"]["shift"]
        limits = c["add"]["zero_point"], c["add"]["clamp_min"], c["add"]["clamp_max"]
        result = add(result, np.asarray(other), (operand["zero_a"], operand["zero_b"]), constants, *limits)
    if output["lookup"]:
        result = look_up(result, state.table)
    state.act[targets] = result
    state.recent[targets] = True


def _check(state: State, i: Instruction, c: Constants) -> None:
    """What shows before the first access."""
    memories = (ACCUMULATORS, ACTIVATIONS, DEPTHWISE) if state.config.dw_taps else (ACCUMULATORS, ACTIVATIONS)
    require(i["memory"] in memories and i["second"] in (NONE, ADD, MULTIPLY), "OPCODE")
    require(i["second"] != MULTIPLY or (i["memory"] == ACTIVATIONS and i["reduce"] == MAXIMUM), "OPCODE")
    counts = i["rows"], i["cols"], c["window"]["kernel_y"], c["window"]["kernel_x"], c["output"]["col_stride"]
    require(min(counts) > 0, "OPERAND")
    config = state.config
    require(i["param"] < config.param_depth and i["dst"] < config.act_depth, "SRAM_RANGE")
    require(not i["second"] or i["operand"] < config.act_depth, "SRAM_RANGE")
    require(i["memory"] == ACTIVATIONS or i["source"] < len(_memory(state, i)) - 1, "SRAM_RANGE")


def _memory(state: State, i: Instruction) -> NDArray:
    """The memory that windows slide over; its last word is padding."""
    return {ACCUMULATORS: state.acc, ACTIVATIONS: state.act, DEPTHWISE: state.dw_acc}[i["memory"]]


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


def _reduce(state: State, i: Instruction, c: Constants, written: NDArray[np.int64]) -> NDArray[np.int32]:
    """Maxima or sums of the windows, [rows, cols, N], a few rows at a time."""
    rows, cols, source, window = i["rows"], i["cols"], c["input"], c["window"]
    memory = _memory(state, i)
    memory[PADDING] = source["pad"]
    half = (len(memory) - 1) // 2
    step = max(1, ROOM // (cols * window["kernel_y"] * window["kernel_x"] * state.config.array))
    parts = []
    for first in range(0, rows, step):
        some = range(first, min(first + step, rows))
        words = window_words(source, window, (i["source"], source["y0"], source["x0"]), some, cols)
        words = words.reshape(len(some), cols, -1)
        if i["memory"] == ACTIVATIONS:
            require(int(words.max()) < state.config.act_depth, "SRAM_RANGE")
            outputs = np.arange(first * cols, some.stop * cols).reshape(len(some), cols, 1)
            values = _read(state, words, outputs, written)
        else:
            require(bool(((words == PADDING) | (words // half == i["source"] // half)).all()), "OPERAND")
            values = memory[words]
        parts.append(values.max(axis=2) if i["reduce"] == MAXIMUM else values.sum(axis=2, dtype=np.int32))
    return np.concatenate(parts).astype(np.int32)


def _operand(state: State, i: Instruction, c: Constants, written: NDArray[np.int64]) -> NDArray[np.int8]:
    words = _grid(i["operand"], c["operand"]["row_stride"], c["operand"]["col_step"], i)
    require(int(words[-1, -1]) < state.config.act_depth, "SRAM_RANGE")
    return _read(state, words, np.arange(words.size).reshape(words.shape), written)


def _read(state: State, words: NDArray, outputs: NDArray, written: NDArray[np.int64]) -> NDArray[np.int8]:
    """Words of activation SRAM; garbage where their value may still be on its way when `outputs` are computed."""
    values = state.act[words]
    late = state.recent[words] | (written[words] < outputs)
    return np.where(late[..., None], ~values, values) if late.any() else values
