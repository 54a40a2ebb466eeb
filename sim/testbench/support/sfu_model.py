"""Model of the SFU for its testbench: memories, and what each instruction must read and write, cycle by cycle."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from systolith.config import Config
from systolith.isa import ADDRESS_BITS, Instruction, Reduction, SecondOperand, SfuSource, encode
from systolith.numerics import add, look_up, requantize

__all__ = ["Constants", "Job", "Memories", "Step", "job_of", "plan", "run", "word_of"]

ADDRESS_MASK = (1 << ADDRESS_BITS) - 1
ACCUMULATORS, ACTIVATIONS, DEPTHWISE = SfuSource
MAXIMUM, SUM = Reduction
NONE, ADD, MULTIPLY = SecondOperand

Constants = dict[str, Mapping[str, int]]
"""The last CONFIG of each group."""


@dataclass(frozen=True)
class Step:
    """One cycle: the row of accumulators and the word of activation SRAM that are read, if any."""

    accumulators: int | None = None
    depthwise: int | None = None
    activations: int | None = None


@dataclass
class Job:
    """One instruction: the steps it makes, in order. `fault` ends it after those; if it `starts`, it takes tokens."""

    instruction: Instruction
    word: int
    steps: list[Step] = field(default_factory=list)
    params: list[int] = field(default_factory=list)
    writes: list[tuple[int, int]] = field(default_factory=list)
    fault: str | None = None
    starts: bool = True


def word_of(values: np.ndarray) -> int:
    return int.from_bytes(np.ascontiguousarray(values).tobytes(), "little")


class Memories:
    """Accumulators, biases and scales such that the results spread over int8 and beyond; activations of all kinds."""

    def __init__(self, config: Config, rng: np.random.Generator):
        n = config.array
        self.scale = np.exp2(rng.uniform(-26, 2, (config.param_depth, n))).astype(np.float32)
        self.bias = np.clip(rng.normal(0, 40, self.scale.shape) / self.scale, -(1 << 30), 1 << 30).astype(np.int32)
        # Some words suit sums and products of activations.
        small = rng.random(config.param_depth) < 0.5
        self.scale[small] = np.exp2(rng.uniform(-8, 1, (small.sum(), n)))
        self.bias[small] = rng.normal(0, 200, (small.sum(), n))
        self.acc = self._accumulators(rng, config.acc_depth, n)
        self.dw_acc = self._accumulators(rng, config.dw_depth, n)
        self.act = rng.integers(-128, 128, (config.act_depth, n), np.int8)
        extreme = rng.random(self.act.shape) < 0.15
        self.act[extreme] = rng.choice(np.array([-128, 127, 0], np.int8), int(extreme.sum()))
        self.table = np.zeros(256, np.int8)

    def _accumulators(self, rng: np.random.Generator, depth: int, n: int) -> np.ndarray:
        """Some rows fit the scales, so that their results lie inside; some values are the ends of int32."""
        spread = np.exp2(rng.uniform(0, 31, (depth, n)))
        values = rng.normal(0, 1, spread.shape) * spread
        fits = rng.random(depth) < 0.6
        values[fits] = (rng.normal(0, 60, spread.shape) / self.scale[rng.integers(0, len(self.scale), depth)])[fits]
        values = np.clip(values, -(1 << 31), (1 << 31) - 1).astype(np.int32)
        extreme = rng.random(values.shape) < 0.03
        values[extreme] = rng.choice(np.array([-(1 << 31), (1 << 31) - 1], np.int32), int(extreme.sum()))
        return values

    def parameter_word(self, param: int) -> int:
        return word_of(np.stack([self.bias[param].view(np.uint32), self.scale[param].view(np.uint32)], axis=1))


def job_of(instruction: Instruction) -> Job:
    return Job(instruction, int.from_bytes(encode(instruction), "little"))


def plan(config: Config, memories: Memories, program: list[Instruction]) -> Iterator[Job]:
    """The jobs of a program, up to and with the first that faults; `memories` becomes what they leave."""
    constants: Constants = {}
    for instruction in program:
        job = job_of(instruction)
        run(config, memories, job, constants)
        yield job
        if job.fault:
            return


def run(config: Config, memories: Memories, job: Job, constants: Constants) -> None:
    """One instruction."""
    i = job.instruction
    if i.form.name == "CONFIG.SFU.table":
        entries = i["entries"].to_bytes(8, "little")
        memories.table[8 * i["index"] : 8 * i["index"] + 8] = np.frombuffer(entries, np.int8)
    elif i.form.name != "SFU":
        constants[i.form.name.split(".")[-1]] = i.values
    elif refusal := _refusal(config, i, constants):
        job.fault, job.starts = refusal, False
    else:
        for oy, ox in product(range(i["rows"]), range(i["cols"])):
            _output(config, memories, job, constants, oy, ox)
            if job.fault:
                return


def _refusal(config: Config, i: Instruction, constants: Constants) -> str | None:
    memory, second = i["memory"], i["second"]
    exists = memory in set(SfuSource) and (memory != DEPTHWISE or config.dw_taps)
    if not exists or second not in set(SecondOperand):
        return "OPCODE"
    if second == MULTIPLY and (memory != ACTIVATIONS or i["reduce"] == SUM):
        return "OPCODE"
    window, output = constants["window"], constants["output"]
    if not all((i["rows"], i["cols"], window["kernel_y"], window["kernel_x"], output["col_stride"])):
        return "OPERAND"
    depth = {ACCUMULATORS: config.acc_depth, DEPTHWISE: config.dw_depth}.get(memory, 1 << ADDRESS_BITS)
    if i["source"] >= depth or i["param"] >= config.param_depth or i["dst"] >= config.act_depth:
        return "SRAM_RANGE"
    if second != NONE and i["operand"] >= config.act_depth:
        return "SRAM_RANGE"
    return None


def _output(config: Config, memories: Memories, job: Job, c: Constants, oy: int, ox: int) -> None:
    """All groups of channels of one output; stops at a fault."""
    i, source, operand = job.instruction, c["input"], c["operand"]
    groups, from_activations = config.array // config.sfu_lanes, i["memory"] == ACTIVATIONS
    memory = {ACCUMULATORS: memories.acc, ACTIVATIONS: memories.act, DEPTHWISE: memories.dw_acc}[i["memory"]]
    half = {ACCUMULATORS: config.acc_half, DEPTHWISE: config.dw_half}.get(i["memory"], config.act_depth)
    dst = i["dst"] + oy * c["output"]["row_stride"] + ox * c["output"]["col_stride"]
    second = i["operand"] + oy * operand["row_stride"] + ox * operand["col_step"] if i["second"] != NONE else None
    # Each step: the word of the window, and the operand that is read.
    taps = [(tap, None) for tap in _taps(source, c["window"], i["source"], oy, ox)]
    if second is not None and from_activations:
        taps.append((None, second))
    elif second is not None:
        taps[-1] = taps[-1][0], second
    values, steps = [], []
    for n, (tap, other) in enumerate(taps):
        if not from_activations and tap is not None and tap // half != i["source"] // half:
            job.fault = "OPERAND"
        elif dst >= config.act_depth or (from_activations and (tap or 0) >= half) or (other or 0) >= config.act_depth:
            job.fault = "SRAM_RANGE"
        if job.fault:
            job.steps += steps
            return
        port = {ACCUMULATORS: "accumulators", ACTIVATIONS: "activations", DEPTHWISE: "depthwise"}[i["memory"]]
        steps.append(Step(**{port: tap} | ({"activations": other} if other is not None else {})))
        if n < len(taps) - (second is not None and from_activations):
            values.append(memory[tap].astype(np.int32) if tap is not None else np.full(config.array, source["pad"]))
    job.steps += steps * groups
    job.params += [i["param"]] * groups
    values = np.array(values, np.int64)
    reduced = values.sum(axis=0) if i["reduce"] == SUM else values.max(axis=0)
    other = memories.act[second] if second is not None else np.zeros(config.array, np.int8)
    result = _result(memories, i, c, reduced, other)
    job.writes.append((dst, word_of(result)))
    memories.act[dst] = result


def _taps(source: Mapping[str, int], window: Mapping[str, int], first: int, oy: int, ox: int) -> list[int | None]:
    """Words of the window, in the order they are read; None outside the tensor."""
    words = []
    for ky, kx in product(range(window["kernel_y"]), range(window["kernel_x"])):
        y = source["y0"] + oy * window["stride_y"] + ky * window["dilation_y"]
        x = source["x0"] + ox * window["stride_x"] + kx * window["dilation_x"]
        inside = 0 <= y < source["height"] and 0 <= x < source["width"]
        words.append(first + y * source["row_stride"] + x & ADDRESS_MASK if inside else None)
    return words


def _result(memories: Memories, i: Instruction, c: Constants, reduced: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Arithmetic behind the window, as systolith.numerics has it."""
    operand, output, param = c["operand"], c["output"], i["param"]
    if i["second"] == MULTIPLY:
        reduced = (reduced - operand["zero_a"]) * (other.astype(np.int64) - operand["zero_b"])
    total = (reduced + memories.bias[param]).astype(np.int32)  # wraps
    limits = output["zero_point"], output["clamp_min"], output["clamp_max"]
    result = requantize(total, memories.scale[param], *limits, joint=i["second"] == MULTIPLY)
    if i["second"] == ADD:
        sums = c["add"]
        zeros = operand["zero_a"], operand["zero_b"]
        factors = sums["multiplier_a"], sums["multiplier_b"], sums["shift"]
        result = add(result, other, zeros, factors, sums["zero_point"], sums["clamp_min"], sums["clamp_max"])
    return look_up(result, memories.table) if output["lookup"] else result
