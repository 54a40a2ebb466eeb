"""Model of the SFU for its testbench: random memories and programs, and what each instruction must read and write."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from systolith.config import Config
from systolith.isa import Instruction, encode, make
from systolith.numerics import requantize

__all__ = ["FAULTS", "Job", "Memories", "job_of", "plan", "random_instructions", "word_of"]

FAULTS = {"OPCODE": 1, "OPERAND": 2, "SRAM_RANGE": 3}


@dataclass
class Job:
    """One instruction: the steps it makes, in order. `fault` ends it after those; if it `starts`, it takes tokens."""

    instruction: Instruction
    word: int
    reads: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, int]] = field(default_factory=list)
    fault: str | None = None
    starts: bool = True


def word_of(values: np.ndarray) -> int:
    return int.from_bytes(np.ascontiguousarray(values).tobytes(), "little")


class Memories:
    """Accumulators, biases and scales such that the results spread over int8 and beyond it."""

    def __init__(self, config: Config, rng: np.random.Generator):
        n = config.array
        self.scale = np.exp2(rng.uniform(-26, 2, (config.param_depth, n))).astype(np.float32)
        self.bias = np.clip(rng.normal(0, 40, self.scale.shape) / self.scale, -(1 << 30), 1 << 30).astype(np.int32)
        spread = np.exp2(rng.uniform(0, 31, (config.acc_depth, n)))
        self.acc = np.clip(rng.normal(0, 1, spread.shape) * spread, -(1 << 30), (1 << 30) - 1).astype(np.int32)
        # Some rows fit the scales, so that their results lie inside.
        fitting = rng.normal(0, 60, self.acc.shape) / self.scale[rng.integers(0, config.param_depth, config.acc_depth)]
        fits = rng.random(config.acc_depth) < 0.6
        self.acc[fits] = np.clip(fitting[fits], -(1 << 30), (1 << 30) - 1).astype(np.int32)

    def parameter_word(self, param: int) -> int:
        return word_of(np.stack([self.bias[param].view(np.uint32), self.scale[param].view(np.uint32)], axis=1))


def job_of(instruction: Instruction) -> Job:
    return Job(instruction, int.from_bytes(encode(instruction), "little"))


def plan(config: Config, memories: Memories, program: list[Instruction]) -> Iterator[Job]:
    """The jobs of a program, up to and with the first that faults."""
    constants: dict[str, int] = {}
    for instruction in program:
        job = job_of(instruction)
        if instruction.form.name == "SFU":
            _run(config, memories, job, constants)
        else:
            constants = dict(instruction.values)
        yield job
        if job.fault:
            return


def _run(config: Config, memories: Memories, job: Job, constants: dict[str, int]) -> None:
    i = job.instruction
    if refusal := _refusal(config, i):
        job.fault, job.starts = refusal, False
        return
    groups = config.array // config.sfu_lanes
    results = requantize(memories.acc + memories.bias[i["param"]], memories.scale[i["param"]], constants["zero_point"],
                         constants["clamp_min"], constants["clamp_max"])  # fmt: skip
    half = i["acc"] // config.acc_half
    for count in range(i["rows"] * i["cols"]):
        oy, ox = divmod(count, i["cols"])
        row, address = i["acc"] + count, i["dst"] + oy * constants["row_stride"] + ox
        if row // config.acc_half != half:
            job.fault = "OPERAND"
        elif address >= config.act_depth:
            job.fault = "SRAM_RANGE"
        if job.fault:
            return
        job.reads += [(row, i["param"])] * groups
        job.writes.append((address, word_of(results[row])))


def _refusal(config: Config, i: Instruction) -> str | None:
    if i["mode"]:
        return "OPCODE"
    if not i["rows"] or not i["cols"]:
        return "OPERAND"
    if i["acc"] >= config.acc_depth or i["param"] >= config.param_depth:
        return "SRAM_RANGE"
    return None


def random_instructions(config: Config, rng: random.Random, count: int) -> list[Instruction]:
    """CONFIG first, then a mix of small and a few large SFU instructions and other CONFIGs; all of them legal."""
    row_stride = 0
    program = []
    for n in range(count):
        masks = {"wait": rng.choice((0, 0, rng.getrandbits(5))), "signal": rng.choice((0, rng.getrandbits(5)))}
        if n == 0 or rng.random() < 0.3:
            row_stride = rng.choice((0, 1, 3, rng.randrange(config.act_depth // 8)))
            low, high = sorted(rng.randint(-128, 127) for _ in range(2))
            if rng.random() < 0.6:
                low, high = -128, 127
            program.append(make("CONFIG.SFU.output", **masks, zero_point=rng.randint(-128, 127), clamp_min=low,
                                clamp_max=high, row_stride=row_stride))  # fmt: skip
            continue
        rows, cols = rng.choice(((1, 1), (1, rng.randint(1, 5)), (rng.randint(1, 4), rng.randint(1, 5))))
        if rng.random() < 0.05:
            rows, cols = 1, min(config.acc_half, 256)
        cols = max(min(cols, config.acc_half // rows), 1)
        rows = min(rows, config.acc_half // cols)
        acc = rng.choice((0, 1)) * config.acc_half + rng.choice((0, config.acc_half - rows * cols))
        last = config.act_depth - (rows - 1) * row_stride - cols
        program.append(make("SFU", **masks, mode=0, acc=acc, dst=rng.choice((0, last, rng.randint(0, last))), rows=rows,
                            cols=cols, param=rng.randrange(config.param_depth)))  # fmt: skip
    return program
