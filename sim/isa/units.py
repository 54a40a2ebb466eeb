"""What each instruction does to SRAMs and memory, one vectorized function for each: the living definition of the ISA.

`simulator.py` decides when; here everything happens at once. Instructions come checked (`checks.py`); of accesses
that must not be, the first one in the order of the unit is refused. The SFU is in `sfu.py`.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from systolith.isa import Instruction, LoadTarget
from systolith.sim.isa.checks import Constants
from systolith.sim.isa.state import Refused, State, require
from systolith.sim.isa.windows import PADDING, window_words

__all__ = ["Weights", "depthwise", "execute", "load_activations", "load_weights", "read_weights", "store"]

EXACT_K = 1024
"""Products summed exactly in float32: 1024 * 128 * 128 = 2^24."""
SMALL = 1 << 19
"""A product so small that OpenBLAS uses one thread: on a busy machine two take ten times as long."""
ROOM = 1 << 20
"""Values of windows gathered at a time."""


class Weights(NamedTuple):
    """The weight words of an EXECUTE, [K, N], as far as there are such words, and the K tiles they are for."""

    words: NDArray[np.int8]
    tiles: int


def load_weights(state: State, i: Instruction, _: Constants) -> None:
    """LOAD.W: contiguous bytes to weight or parameter SRAM."""
    target = state.params if i["target"] == LoadTarget.PARAMETERS else state.weights.view(np.uint8)
    require(i["sram"] + i["words"] <= len(target), "SRAM_RANGE")
    count = i["words"] * state.config.array
    target[i["sram"] : i["sram"] + i["words"]] = state.bytes_at(i["region"], i["offset"], count).reshape(i["words"], -1)
    state.bytes_read += count


def load_activations(state: State, i: Instruction, c: Constants) -> None:
    """LOAD.A: windows of rows, with padding, to activation SRAM."""
    source, window = c["source"], c["window"]
    rows, cols, length, step, lane = i["rows"], i["cols"], window["length"], window["step"], window["lane"]
    span = (cols - 1) * step + length
    first, last = min(max(i["x0"], 0), source["row_bytes"]), min(max(i["x0"] + span, 0), source["row_bytes"])
    row = np.empty(span, np.int8)
    windows = as_strided(row, (cols, length), (step, 1))
    for r in range(rows):
        start = i["sram"] + r * window["row_stride"]
        require(start + cols <= state.config.act_depth, "SRAM_RANGE")
        row[:] = window["zero_point"]
        if 0 <= i["y0"] + r * source["row_step"] < source["height"] and first < last:
            data = state.bytes_at(i["region"], i["offset"] + r * source["row_pitch"] + first, last - first)
            row[first - i["x0"] : last - i["x0"]] = data.view(np.int8)
            state.bytes_read += last - first
        state.act[start : start + cols, lane : lane + length] = windows


def read_weights(state: State, i: Instruction, c: Constants) -> Weights:
    """What EXECUTE's weight stage streams."""
    tiles = c["kernel"]["kernel_y"] * c["kernel"]["kernel_x"] * c["kernel"]["blocks"]
    return Weights(state.weights[i["weight"] : i["weight"] + tiles * state.config.array].copy(), tiles)


def execute(state: State, i: Instruction, c: Constants, weights: Weights) -> None:
    """EXECUTE: gather the input word of every output and K tile, multiply, and add into the accumulators."""
    count = i["rows"] * i["cols"]
    blocks = i["act"] + c["input"]["block_stride"] * np.arange(c["kernel"]["blocks"])
    words = window_words(c["input"], c["kernel"], (blocks, i["y0"], i["x0"]), range(i["rows"]), i["cols"])
    words = words.reshape(count, -1)
    _check_tiles(state, i, words, len(weights.words))
    state.act[PADDING] = c["input"]["zero_point"]
    values = state.act[words].reshape(count, -1)
    sums = _product(values, weights.words)
    rows = slice(i["acc"], i["acc"] + count)
    state.acc[rows] = state.acc[rows] + sums if i["accumulate"] else sums


def _check_tiles(state: State, i: Instruction, words: NDArray[np.int64], weights: int) -> None:
    """Refuse the first row of a K tile that reads or accumulates where it must not, at `Refused.place` = (tile, row).

    `words`: of activations, [rows, tiles]. The weights of a tile are read while the rows of the one before go, two
    cycles behind them: of both, what is wrong is refused in that order.
    """
    config, (count, tiles) = state.config, words.shape
    found: list[tuple[tuple[int, int], str]] = []
    if weights < tiles * config.array:
        tile, word = divmod(weights, config.array)
        found.append(((tile - 1, word + 2), "SRAM_RANGE"))
    beyond = (words >= config.act_depth).T
    if beyond.any():
        tile, row = divmod(int(beyond.argmax()), count)
        found.append(((tile, row), "SRAM_RANGE"))
    if i["acc"] >= config.acc_depth:
        found.append(((0, 0), "SRAM_RANGE"))
    in_half = config.acc_half - i["acc"] % config.acc_half
    if in_half < count:
        found.append(((0, in_half), "OPERAND"))
    if found:
        place, code = min(found, key=lambda error: error[0])
        raise Refused(code, place)


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
    require(i["acc"] % config.dw_half + rows * cols <= config.dw_half, "OPERAND")
    taps = kernel["kernel_y"] * kernel["kernel_x"]
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


def store(state: State, i: Instruction, c: Constants) -> None:
    """STORE: rows of activation SRAM to memory."""
    rows, cols = i["rows"], i["cols"]
    count = cols * state.config.array
    for r in range(rows):
        start = i["sram"] + r * c["target"]["row_stride"]
        require(start + cols <= state.config.act_depth, "SRAM_RANGE")
        target = state.bytes_at(i["region"], i["offset"] + r * c["target"]["row_pitch"], count)
        target[:] = state.act[start : start + cols].view(np.uint8).reshape(-1)
        state.bytes_written += count
