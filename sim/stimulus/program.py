"""Random valid programs: instructions of every unit in any order, with random constants, all over every memory.

The bridge between the definition of the ISA and the hardware: whatever runs such a program must leave the same bytes in
memory. A program first fills every memory, then does something random, then stores all of activation SRAM.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import Instruction, LoadTarget, Region, encode_program, make
from systolith.program import Program, Tensor
from systolith.sim.host.memory_image import Image, build
from systolith.sim.stimulus.instructions import Draw, Drawn, words_of
from systolith.sim.stimulus.program_order import Access, ProgramOrder
from systolith.sim.stimulus.sfu import RandomSfu

__all__ = ["KINDS", "RandomProgram", "assemble", "begin", "empty", "random_program"]

KINDS = ("LOAD.W", "LOAD.A", "EXECUTE", "DEPTHWISE", "SFU", "SFU", "SFU", "STORE")
MARGIN = 64
"""Words of regions INPUT and OUTPUT beyond those of activation SRAM."""
LONGEST = 2048
"""Columns of LOAD.A and STORE."""


@dataclass(frozen=True)
class RandomProgram:
    """A program with its input, and its instructions."""

    program: Program
    input: NDArray[np.int8]
    listing: list[Instruction]

    def image(self, seed: int | None = None) -> Image:
        """Memory ready for a run."""
        return build(self.program, {"x": self.input}, seed)


def random_program(
    rng: np.random.Generator, config: Config, length: int = 24, kinds: tuple[str, ...] = KINDS
) -> RandomProgram:
    """A program for a configuration; `kinds` are drawn from for its `length` random instructions."""
    draw, order, sfu = begin(rng, config)
    kinds = tuple(kind for kind in kinds if kind != "DEPTHWISE" or config.dw_taps)
    for _ in range(length):
        if draw.chance(0.03):
            order.fence()
        kind = str(rng.choice(kinds))
        _append(order, sfu.sfu() if kind == "SFU" else draw.instruction(kind))
    _append(order, empty(draw, config))
    order.listing.append(make("END"))
    return assemble(rng, config, order.listing)


def begin(rng: np.random.Generator, config: Config) -> tuple[Draw, ProgramOrder, RandomSfu]:
    """What draws a program, and its begin, which fills every memory."""
    words = config.act_depth + MARGIN
    draw, order = Draw(rng, config, words, words), ProgramOrder(config)
    sfu = RandomSfu(draw)
    for drawn in (_fill(draw, config), *(sfu.table(index) for index in range(32))):
        _append(order, drawn)
    return draw, order, sfu


def assemble(rng: np.random.Generator, config: Config, listing: list[Instruction]) -> RandomProgram:
    """A program of these instructions, with random weights, parameters and input."""
    n, words = config.array, config.act_depth + MARGIN
    dims = 1, n, 1, words
    weights = rng.integers(-128, 128, config.weight_depth * n, np.int8).tobytes()
    program = Program(
        config.fingerprint, n, encode_program(listing), _parameters(rng, config) + weights,
        (Tensor("x", dims, "int8", Region.INPUT, 0, dims, (0, 1, 2, 3)),),
        (Tensor("y", dims, "int8", Region.OUTPUT, 0, dims, (0, 1, 2, 3)),),
    )  # fmt: skip
    return RandomProgram(program, rng.integers(-128, 128, dims, np.int8), listing)


def _append(order: ProgramOrder, drawn: Drawn) -> None:
    for instruction, access in drawn:
        order.add(instruction, access)


def _parameters(rng: np.random.Generator, config: Config) -> bytes:
    """Biases of every size, and scales (positive and normal) that let few or many outputs saturate. Half of the words
    have small biases and powers of two that suit products and values of activations, so that there are ties."""
    shape = config.param_depth, config.array
    bias = rng.integers(-(1 << 31), 1 << 31, shape) >> rng.integers(0, 32, shape)
    exponent = np.where(rng.random(shape) < 0.3, rng.integers(-16, 2, shape), rng.uniform(-24, 2, shape))
    exponent = np.where(rng.random(shape) < 0.05, rng.uniform(-126, 127, shape), exponent)
    plain = rng.random((config.param_depth, 1)) < 0.5
    bias = np.where(plain, rng.integers(-9, 10, shape), bias)
    scale = np.exp2(np.where(plain, rng.integers(-8, 1, shape), exponent)).astype("<f4")
    return np.stack([bias.astype("<i4").view("<u4"), scale.view("<u4")], axis=-1).tobytes()


def _fill(draw: Draw, config: Config) -> Drawn:
    """All of each memory."""
    n, cols = config.array, gcd(config.act_depth, LONGEST)
    rows, chunks = config.act_depth // cols, 8 * config.param_depth
    load = make("LOAD.W", region=Region.WEIGHTS, offset=0, sram=0, words=chunks, target=LoadTarget.PARAMETERS)
    yield load, Access(writes={"param": np.arange(config.param_depth)})
    load = make("LOAD.W", region=Region.WEIGHTS, offset=chunks * n, sram=0, words=config.weight_depth,
                target=LoadTarget.WEIGHTS)  # fmt: skip
    yield load, Access(writes={"weight": np.arange(config.weight_depth)})
    yield from draw.configure(
        "LOAD_A", source={"row_pitch": cols * n, "height": rows, "row_step": 1, "row_bytes": cols * n},
        window={"step": n, "length": n, "lane": 0, "zero_point": 0, "row_stride": cols})  # fmt: skip
    yield make("LOAD.A", region=Region.INPUT, offset=0, sram=0, rows=rows, cols=cols, x0=0, y0=0), Access(
        writes={"act": np.arange(config.act_depth)})  # fmt: skip
    for unit, depth in (("EXECUTE", config.acc_depth), *((("DEPTHWISE", config.dw_depth),) if config.dw_taps else ())):
        yield from _fill_accumulators(draw, unit, depth, config)


def _fill_accumulators(draw: Draw, unit: str, depth: int, config: Config) -> Drawn:
    """Products of one tap, row by row."""
    cols = gcd(depth // 2, 8)
    rows = depth // 2 // cols
    execute = unit == "EXECUTE"
    source = {"height": rows, "width": cols, "row_stride": cols if depth // 2 <= config.act_depth else 0,
              **({"block_stride": 0} if execute else {}), "zero_point": 0}  # fmt: skip
    kernel = {"kernel_y": 1, "kernel_x": 1, **({"blocks": 1} if execute else {}), "stride_y": 1, "stride_x": 1,
              "dilation_y": 1, "dilation_x": 1}  # fmt: skip
    yield from draw.configure(unit, input=source, kernel=kernel)
    for half in range(2):
        values = {"act": 0, "weight": 0, "y0": 0, "x0": 0, "rows": rows, "cols": cols, "acc": half * depth // 2}
        reads = {"act": words_of(0, rows, source["row_stride"], cols), "weight": np.arange(config.array)}
        yield make(unit, **values, **({"accumulate": 0} if execute else {})), Access(
            reads, {"acc" if execute else "dw_acc": np.array([half])})  # fmt: skip


def empty(draw: Draw, config: Config) -> Drawn:
    """Store activation SRAM."""
    cols = gcd(config.act_depth, LONGEST)
    rows = config.act_depth // cols
    yield from draw.configure("STORE", target={"row_pitch": cols * config.array, "row_stride": cols})
    yield make("STORE", region=Region.OUTPUT, offset=0, sram=0, rows=rows, cols=cols), Access(
        {"act": np.arange(config.act_depth)})  # fmt: skip
