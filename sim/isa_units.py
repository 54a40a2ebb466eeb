"""What each instruction does to SRAMs and memory, one vectorized function for each: the living definition of the ISA.

`isa_sim.py` decides when; here everything happens at once. `State` starts with garbage in every SRAM.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import Instruction, Region
from systolith.numerics import requantize
from systolith.sim.image import Image

__all__ = ["Refused", "State", "execute", "load_activations", "load_weights", "read_weights", "sfu", "store"]

ADDRESS_MASK = (1 << 18) - 1
OFFSET_MASK = (1 << 32) - 1
EXACT_K = 1024
"""Products summed exactly in float32: 1024 * 128 * 128 = 2^24."""

Constants = Mapping[str, int]


class Refused(Exception):
    """An access or operand the hardware stops at; `code` is a name in `isa.ERRORS`."""

    def __init__(self, code: str):
        super().__init__(code)
        self.code = code


@dataclass(eq=False)
class State:
    """SRAMs and memory. `act` has one word more than the hardware, which EXECUTE reads for padding."""

    config: Config
    memory: Image
    act: NDArray[np.int8]
    weights: NDArray[np.int8]
    params: NDArray[np.uint8]
    acc: NDArray[np.int32]
    bytes_read: int = 0
    bytes_written: int = 0

    @classmethod
    def garbage(cls, config: Config, memory: Image, rng: np.random.Generator) -> "State":
        """SRAMs of the configuration's sizes, filled at random."""
        n = config.array
        return cls(
            config,
            memory,
            rng.integers(-128, 128, (config.act_depth + 1, n), np.int8),
            rng.integers(-128, 128, (config.weight_depth, n), np.int8),
            rng.integers(0, 256, (8 * config.param_depth, n), np.uint8),
            rng.integers(-(1 << 31), 1 << 31, (config.acc_depth, n), np.int32),
        )

    def bytes_at(self, region: int, offset: int, count: int) -> NDArray[np.uint8]:
        """A view of `count` bytes of a region; refuses what is not inside it."""
        offset &= OFFSET_MASK
        if region not in self.memory.limits or offset + count > self.memory.limits[Region(region)]:
            raise Refused("REGION_RANGE")
        return self.memory.region(Region(region))[offset : offset + count]


def load_weights(state: State, i: Instruction, _: Constants) -> None:
    """LOAD.W: contiguous bytes to weight or parameter SRAM."""
    target = state.params if i["target"] else state.weights.view(np.uint8)
    _require(i["words"] > 0, "OPERAND")
    _require(i["sram"] + i["words"] <= len(target), "SRAM_RANGE")
    count = i["words"] * state.config.array
    target[i["sram"] : i["sram"] + i["words"]] = state.bytes_at(i["region"], i["offset"], count).reshape(i["words"], -1)
    state.bytes_read += count


def load_activations(state: State, i: Instruction, c: Constants) -> None:
    """LOAD.A: windows of rows, with padding, to activation SRAM."""
    rows, cols, length, step, lane = i["rows"], i["cols"], c["length"], c["step"], c["lane"]
    _require(min(rows, cols, length, step) > 0 and lane + length <= state.config.array, "OPERAND")
    _require(i["sram"] + (rows - 1) * c["row_stride"] + cols <= state.config.act_depth, "SRAM_RANGE")
    span = (cols - 1) * step + length
    first, last = min(max(i["x0"], 0), c["row_bytes"]), min(max(i["x0"] + span, 0), c["row_bytes"])
    row = np.empty(span, np.int8)
    windows = as_strided(row, (cols, length), (step, 1))
    for r in range(rows):
        row[:] = c["zero_point"]
        if 0 <= i["y0"] + r * c["row_step"] < c["height"] and first < last:
            data = state.bytes_at(i["region"], i["offset"] + r * c["row_pitch"] + first, last - first)
            row[first - i["x0"] : last - i["x0"]] = data.view(np.int8)
            state.bytes_read += last - first
        start = i["sram"] + r * c["row_stride"]
        state.act[start : start + cols, lane : lane + length] = windows


def read_weights(state: State, i: Instruction, c: Constants) -> NDArray[np.int8]:
    """The weight words of EXECUTE, [K, N]: what its weight stage streams into the array."""
    words = c["kernel_y"] * c["kernel_x"] * c["blocks"] * state.config.array
    _require(words > 0, "OPERAND")
    _require(i["weight"] + words <= state.config.weight_depth, "SRAM_RANGE")
    return state.weights[i["weight"] : i["weight"] + words].copy()


def execute(state: State, i: Instruction, c: Constants, weights: NDArray[np.int8]) -> None:
    """EXECUTE: gather the input word of every output and K tile, multiply, and add into the accumulators."""
    config, count = state.config, i["rows"] * i["cols"]
    _require(count > 0, "OPERAND")
    _require(i["acc"] < config.acc_depth, "SRAM_RANGE")
    _require(i["acc"] % config.acc_half + count <= config.acc_half, "OPERAND")
    state.act[config.act_depth] = c["zero_point"]
    words = state.act[_addresses(i, c, config.act_depth)].reshape(count, -1)
    sums = np.zeros((count, config.array), np.int32)
    for k in range(0, len(weights), EXACT_K):
        part = slice(k, k + EXACT_K)
        sums += (words[:, part].astype(np.float32) @ weights[part].astype(np.float32)).astype(np.int32)
    rows = slice(i["acc"], i["acc"] + count)
    state.acc[rows] = state.acc[rows] + sums if i["accumulate"] else sums


def _addresses(i: Instruction, c: Constants, depth: int) -> NDArray[np.int64]:
    """Activation word of each output (outer) and K tile (inner); `depth` stands for padding."""
    ky, kx, block = np.ogrid[: c["kernel_y"], : c["kernel_x"], : c["blocks"]]
    oy, ox = np.ogrid[: i["rows"], : i["cols"]]
    y = i["y0"] + oy[..., None, None, None] * c["stride_y"] + ky * c["dilation_y"]
    x = i["x0"] + ox[..., None, None, None] * c["stride_x"] + kx * c["dilation_x"]
    inside = (y >= 0) & (y < c["height"]) & (x >= 0) & (x < c["width"])
    address = i["act"] + block * c["block_stride"] + y * c["row_stride"] + x & ADDRESS_MASK
    inside = np.broadcast_to(inside, address.shape)
    _require(bool((address[inside] < depth).all()), "SRAM_RANGE")
    return np.where(inside, address, depth)


def sfu(state: State, i: Instruction, c: Constants) -> None:
    """SFU: bias, requantize and clamp accumulator rows into activation SRAM."""
    config, rows, cols = state.config, i["rows"], i["cols"]
    _require(i["mode"] == 0, "OPCODE")
    _require(rows * cols > 0, "OPERAND")
    _require(i["acc"] < config.acc_depth and i["param"] < config.param_depth, "SRAM_RANGE")
    _require(i["acc"] % config.acc_half + rows * cols <= config.acc_half, "OPERAND")
    _require(i["dst"] + (rows - 1) * c["row_stride"] + cols <= config.act_depth, "SRAM_RANGE")
    word = state.params[8 * i["param"] : 8 * i["param"] + 8].reshape(config.array, 8)
    bias, scale = word[:, :4].copy().view("<i4")[:, 0], word[:, 4:].copy().view("<f4")[:, 0]
    acc = state.acc[i["acc"] : i["acc"] + rows * cols] + bias
    result = requantize(acc, scale, c["zero_point"], c["clamp_min"], c["clamp_max"]).reshape(rows, cols, -1)
    for r in range(rows):
        start = i["dst"] + r * c["row_stride"]
        state.act[start : start + cols] = result[r]


def store(state: State, i: Instruction, c: Constants) -> None:
    """STORE: rows of activation SRAM to memory."""
    rows, cols = i["rows"], i["cols"]
    _require(rows * cols > 0, "OPERAND")
    _require(i["sram"] + (rows - 1) * c["row_stride"] + cols <= state.config.act_depth, "SRAM_RANGE")
    count = cols * state.config.array
    for r in range(rows):
        target = state.bytes_at(i["region"], i["offset"] + r * c["row_pitch"], count)
        start = i["sram"] + r * c["row_stride"]
        target[:] = state.act[start : start + cols].view(np.uint8).reshape(-1)
        state.bytes_written += count


def _require(holds: bool, code: str) -> None:
    if not holds:
        raise Refused(code)
