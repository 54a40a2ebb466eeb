"""What each instruction does to SRAMs and memory, one vectorized function for each: the living definition of the ISA.

`isa_sim.py` decides when; here everything happens at once. The SFU is in `isa_sfu.py`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from systolith.isa import Instruction
from systolith.sim.isa_state import State, require
from systolith.sim.isa_windows import PADDING, window_words

__all__ = ["Constants", "depthwise", "execute", "load_activations", "load_weights", "read_weights", "store"]

EXACT_K = 1024
"""Products summed exactly in float32: 1024 * 128 * 128 = 2^24."""
SMALL = 1 << 19
"""A product so small that OpenBLAS uses one thread: on a busy machine two take ten times as long."""
ROOM = 1 << 20
"""Values of windows gathered at a time."""

Constants = Mapping[str, Mapping[str, int]]
"""What CONFIG last said, by group: `constants["kernel"]["stride_y"]`."""


def load_weights(state: State, i: Instruction, _: Constants) -> None:
    """LOAD.W: contiguous bytes to weight or parameter SRAM."""
    target = state.params if i["target"] else state.weights.view(np.uint8)
    require(i["words"] > 0, "OPERAND")
    require(i["sram"] + i["words"] <= len(target), "SRAM_RANGE")
    count = i["words"] * state.config.array
    target[i["sram"] : i["sram"] + i["words"]] = state.bytes_at(i["region"], i["offset"], count).reshape(i["words"], -1)
    state.bytes_read += count


def load_activations(state: State, i: Instruction, c: Constants) -> None:
    """LOAD.A: windows of rows, with padding, to activation SRAM."""
    source, window = c["source"], c["window"]
    rows, cols, length, step, lane = i["rows"], i["cols"], window["length"], window["step"], window["lane"]
    require(min(rows, cols, length, step) > 0 and lane + length <= state.config.array, "OPERAND")
    require(i["sram"] + (rows - 1) * window["row_stride"] + cols <= state.config.act_depth, "SRAM_RANGE")
    span = (cols - 1) * step + length
    first, last = min(max(i["x0"], 0), source["row_bytes"]), min(max(i["x0"] + span, 0), source["row_bytes"])
    row = np.empty(span, np.int8)
    windows = as_strided(row, (cols, length), (step, 1))
    for r in range(rows):
        row[:] = window["zero_point"]
        if 0 <= i["y0"] + r * source["row_step"] < source["height"] and first < last:
            data = state.bytes_at(i["region"], i["offset"] + r * source["row_pitch"] + first, last - first)
            row[first - i["x0"] : last - i["x0"]] = data.view(np.int8)
            state.bytes_read += last - first
        start = i["sram"] + r * window["row_stride"]
        state.act[start : start + cols, lane : lane + length] = windows


def read_weights(state: State, i: Instruction, c: Constants) -> NDArray[np.int8]:
    """The weight words of EXECUTE, [K, N]: what its weight stage streams into the array."""
    kernel = c["kernel"]
    words = kernel["kernel_y"] * kernel["kernel_x"] * kernel["blocks"] * state.config.array
    require(words > 0, "OPERAND")
    require(i["weight"] + words <= state.config.weight_depth, "SRAM_RANGE")
    return state.weights[i["weight"] : i["weight"] + words].copy()


def execute(state: State, i: Instruction, c: Constants, weights: NDArray[np.int8]) -> None:
    """EXECUTE: gather the input word of every output and K tile, multiply, and add into the accumulators."""
    config, count = state.config, i["rows"] * i["cols"]
    _check_tile(i, config.acc_depth)
    blocks = i["act"] + c["input"]["block_stride"] * np.arange(c["kernel"]["blocks"])
    words = window_words(c["input"], c["kernel"], (blocks, i["y0"], i["x0"]), range(i["rows"]), i["cols"])
    require(int(words.max()) < config.act_depth, "SRAM_RANGE")
    state.act[PADDING] = c["input"]["zero_point"]
    values = state.act[words].reshape(count, -1)
    sums = _product(values, weights)
    rows = slice(i["acc"], i["acc"] + count)
    state.acc[rows] = state.acc[rows] + sums if i["accumulate"] else sums


def _product(values: NDArray[np.int8], weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """Exact matrix product, in pieces of at most `SMALL` multiplications."""
    sums = np.zeros((len(values), weights.shape[1]), np.int32)
    for k in range(0, len(weights), EXACT_K):
        part = weights[k : k + EXACT_K].astype(np.float32)
        step = max(1, SMALL // part.size)
        for row in range(0, len(values), step):
            piece = values[row : row + step, k : k + EXACT_K].astype(np.float32)
            sums[row : row + step] += (piece @ part).astype(np.int32)
    return sums


def depthwise(state: State, i: Instruction, c: Constants) -> None:
    """DEPTHWISE: each lane convolves its own channel, a few output rows at a time."""
    config, rows, cols, kernel = state.config, i["rows"], i["cols"], c["kernel"]
    _check_tile(i, config.dw_depth)
    taps = kernel["kernel_y"] * kernel["kernel_x"]
    require(taps > 0, "OPERAND")
    require(i["weight"] + taps <= config.weight_depth, "SRAM_RANGE")
    weights = state.weights[i["weight"] : i["weight"] + taps].astype(np.int32)
    state.act[PADDING] = c["input"]["zero_point"]
    step = max(1, ROOM // (cols * taps * config.array))
    for first in range(0, rows, step):
        some = range(first, min(first + step, rows))
        words = window_words(c["input"], kernel, (i["act"], i["y0"], i["x0"]), some, cols)
        require(int(words.max()) < config.act_depth, "SRAM_RANGE")
        values = state.act[words.reshape(-1, taps)]
        start = i["acc"] + first * cols
        state.dw_acc[start : start + len(values)] = np.einsum("pkn,kn->pn", values, weights, dtype=np.int32)


def _check_tile(i: Instruction, depth: int) -> None:
    """A tile of accumulator rows is not empty, and stays in one half."""
    count, half = i["rows"] * i["cols"], depth // 2
    require(count > 0, "OPERAND")
    require(i["acc"] < depth, "SRAM_RANGE")
    require(i["acc"] % half + count <= half, "OPERAND")


def store(state: State, i: Instruction, c: Constants) -> None:
    """STORE: rows of activation SRAM to memory."""
    rows, cols = i["rows"], i["cols"]
    require(rows * cols > 0, "OPERAND")
    require(i["sram"] + (rows - 1) * c["target"]["row_stride"] + cols <= state.config.act_depth, "SRAM_RANGE")
    count = cols * state.config.array
    for r in range(rows):
        target = state.bytes_at(i["region"], i["offset"] + r * c["target"]["row_pitch"], count)
        start = i["sram"] + r * c["target"]["row_stride"]
        target[:] = state.act[start : start + cols].view(np.uint8).reshape(-1)
        state.bytes_written += count
