"""EXECUTE with array and accumulators against NumPy convolutions: any layer, back to back, with late tokens and faults."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout

from systolith.config import Config
from systolith.isa import ERRORS, Instruction, encode, make
from systolith.sim.testbench.environment import Environment
from systolith.sim.testbench.execute_model import Layer, execute, random_layer

NAME = "execute"
PROGRAMS = 6
INDEX_BITS = 24
LOAD_W = 1
COUNTS = ("fed", "wait_weights", "wait_tokens", "idle")
LATENCY = 2
CODES = {name: code for code, (name, _) in ERRORS.items()}


def component(config: Config):
    """What to verilate."""
    from systolith.sim.testbench.compute_top import ComputeTop

    return ComputeTop(config)


class Bench(Environment):
    """The unit with its queue, tokens and SRAMs; `run` executes a program."""

    def __init__(self, dut):
        super().__init__(dut)
        size = self.config.array
        draw = self.numpy.integers
        self.activations = draw(-128, 128, (self.config.act_depth, size), np.int8)
        self.weights = draw(-128, 128, (self.config.weight_depth, size), np.int8)
        self.retired: list[tuple[int, int]] = []
        self.counts: Counter[str] = Counter()
        self.trace: list[str] = []
        self.token_rate = self.issue_rate = 1.0
        self.taken: Counter[int] = Counter()
        for name in (
            "unit__instruction__valid",
            "unit__instruction__payload",
            "unit__halt",
            "unit__tokens__ready",
            "weight_tokens__ready",
            "read__valid",
            "read__address",
            "weights__data",
            "activations__data",
        ):
            getattr(dut, name).value = 0
        dut.weights__ready.value = dut.activations__ready.value = 1

    async def start(self):
        """Reset, and start what surrounds the unit."""
        await self.reset()
        dut = self.dut
        cocotb.start_soon(self._memory("weights", self.weights))
        cocotb.start_soon(self._memory("activations", self.activations))
        cocotb.start_soon(
            self._tokens(dut.weight_tokens__need, dut.weight_tokens__ready, dut.weight_tokens__take, LOAD_W)
        )
        cocotb.start_soon(self._tokens(dut.unit__tokens__need, dut.unit__tokens__ready, dut.unit__tokens__take, 0x3E))
        cocotb.start_soon(self._monitor())

    async def _memory(self, port: str, content: np.ndarray):
        """Answers each request LATENCY cycles later, and rubbish otherwise."""
        valid, address, data = (getattr(self.dut, f"{port}__{name}") for name in ("valid", "address", "data"))
        rubbish = self.rng.getrandbits(8 * content.shape[1])
        answers = [rubbish] * (LATENCY - 1)
        while True:
            await RisingEdge(self.clock)
            data.value = answers.pop(0)
            if valid.value:
                where = int(address.value)
                assert where < len(content), f"{port}: read at {where} of {len(content)}"
                answers.append(int.from_bytes(content[where].tobytes(), "little"))
            else:
                answers.append(rubbish)

    async def _tokens(self, need, ready, take, allowed: int):
        """Gives the tokens asked for at a random time; each unit's needs must be inside `allowed`."""
        while True:
            await FallingEdge(self.clock)
            mask = int(need.value)
            assert mask & ~allowed == 0, f"tokens of {mask:06b} must be inside {allowed:06b}"
            present = mask == 0 or self.rng.random() < self.token_rate
            ready.value = present
            self.cover("late token", not present)
            await RisingEdge(self.clock)
            if take.value and mask:
                self.taken[mask] += 1

    async def _monitor(self):
        """Notes what retires, and that each cycle has exactly one reason."""
        dut = self.dut
        while True:
            await RisingEdge(self.clock)
            if dut.unit__retired.value:
                self.retired.append((int(dut.unit__retired_index.value), int(dut.unit__give.value)))
            else:
                assert dut.unit__give.value == 0
            word = int(dut.counts.value)
            assert word.bit_count() == 1, f"counts must be one of {COUNTS}, not {word:04b}"
            self.trace.append(COUNTS[word.bit_length() - 1])

    async def issue(self, instructions: Sequence[Instruction | int], first: int):
        """Offer instructions (or words of 128 bits), numbered from `first`."""
        dut = self.dut
        for i, instruction in enumerate(instructions):
            word = instruction if isinstance(instruction, int) else int.from_bytes(encode(instruction), "little")
            while self.rng.random() >= self.issue_rate:
                await RisingEdge(self.clock)
            dut.unit__instruction__payload.value = word | first + i << 128
            dut.unit__instruction__valid.value = 1
            await RisingEdge(self.clock)
            while not dut.unit__instruction__ready.value:
                await RisingEdge(self.clock)
            dut.unit__instruction__valid.value = 0
            dut.unit__instruction__payload.value = self.rng.getrandbits(128 + INDEX_BITS)

    @property
    def fault(self) -> tuple[int, int]:
        """Code and instruction index; no meaning of the index without a code."""
        word = int(self.dut.unit__fault.value)
        return word & 0xFF, word >> 8

    async def run(self, instructions: Sequence[Instruction]):
        """Execute a program to its end; checks what retires and which tokens are taken."""
        first = self.rng.choice([0, self.rng.randrange(1 << INDEX_BITS - 1)])
        self.retired.clear()
        self.taken.clear()
        self.trace.clear()
        await with_timeout(self.issue(instructions, first), 10, "ms")
        while self.dut.unit__busy.value:
            await RisingEdge(self.clock)
        await self.cycles(2)
        assert self.fault[0] == 0, f"fault {self.fault}"
        expected = [(first + i, instruction.signal) for i, instruction in enumerate(instructions)]
        assert self.retired == expected, f"retired must be {expected}, not {self.retired}"
        waits = [instruction.wait for instruction in instructions]
        masks = Counter(
            [wait & LOAD_W for wait in waits if wait & LOAD_W] + [wait & 0x3E for wait in waits if wait & 0x3E]
        )
        assert self.taken == masks, f"tokens taken must be {masks}, not {self.taken}"

    async def read_accumulators(self) -> np.ndarray:
        """All rows, through the port of the SFU."""
        dut, rows = self.dut, []
        for address in range(self.config.acc_depth + LATENCY):
            dut.read__valid.value, dut.read__address.value = 1, address % self.config.acc_depth
            await RisingEdge(self.clock)
            if address >= LATENCY:
                rows.append(
                    np.frombuffer(int(dut.read__data.value).to_bytes(4 * self.config.array, "little"), np.int32)
                )
        dut.read__valid.value = 0
        return np.array(rows)

    def with_masks(self, instruction: Instruction) -> Instruction:
        """The instruction with random waits and signals."""
        wait, signal = (self.rng.choice([0, 0, LOAD_W, self.rng.getrandbits(6)]) for _ in range(2))
        return dataclasses.replace(instruction, wait=wait, signal=signal)


def program(layers: Sequence[Layer], bench: Bench | None = None) -> list[Instruction]:
    """CONFIG only where it changes; if there is a bench, sometimes more often, and with random masks."""
    instructions, before = [], None
    for layer in layers:
        for part in ("tensor", "kernel"):
            if before is None or getattr(layer, part) != getattr(before, part):
                instructions.append(getattr(layer, part))
            while bench and bench.rng.random() < 0.3:
                instructions.append(getattr(layer, part))
        instructions.append(layer.execute)
        before = layer
    return [bench.with_masks(i) for i in instructions] if bench else instructions


@cocotb.test()
async def random_layers(dut):
    bench = Bench(dut)
    rng, config = bench.rng, bench.config
    await bench.start()
    expected = np.zeros((config.acc_depth, config.array), np.int32)
    for run in range(PROGRAMS):
        bench.token_rate, bench.issue_rate = rng.choice([(1.0, 1.0), (1.0, 0.3), (0.1, 1.0), (0.5, 0.5)])
        layers = [random_layer(rng, config) for _ in range(rng.randint(1, 10))]
        for layer in layers:
            execute(layer, bench.activations, bench.weights, expected)
            kernel, tensor, start = layer.kernel, layer.tensor, layer.execute
            bench.cover("M = 1", layer.outputs == 1)
            bench.cover("M < N", layer.outputs < config.array)
            bench.cover("M > N", layer.outputs > config.array)
            bench.cover("several blocks", kernel["blocks"] > 1)
            bench.cover("stride", kernel["stride_y"] > 1 or kernel["stride_x"] > 1)
            bench.cover("dilation", kernel["dilation_y"] > 1 or kernel["dilation_x"] > 1)
            bench.cover("padding", start["y0"] < 0 or start["x0"] < 0)
            bench.cover("far position", start["y0"] in (-8192, 8191))
            bench.cover("accumulate", start["accumulate"])
            bench.cover("overwrite", not start["accumulate"])
            bench.cover("zero point", tensor["zero_point"] != 0)
            bench.cover("address wraps", start["act"] >= config.act_depth)
        await bench.run(program(layers, bench))
        found = await bench.read_accumulators()
        wrong = np.flatnonzero((found != expected).any(axis=1))
        assert wrong.size == 0, (
            f"program {run}: accumulator rows {wrong} differ, first:\n{found[wrong[0]]} found, "
            f"{expected[wrong[0]]} expected, of\n" + "\n".join(map(str, layers))
        )
    bench.finish(
        require=(
            "M = 1",
            "M < N",
            "M > N",
            "several blocks",
            "stride",
            "dilation",
            "padding",
            "accumulate",
            "overwrite",
            "zero point",
            "address wraps",
            "far position",
            "late token",
        )
    )


@cocotb.test()
async def no_bubbles(dut):
    """Tiles cost max(M, N) cycles, across instructions and CONFIG as well."""
    bench = Bench(dut)
    rng, size = bench.rng, bench.config.array
    await bench.start()
    heights = {
        "M = 1": [1],
        "M = N": [size],
        "M = N + 1": [size + 1],
        "mixed": [1, 2, size - 1, size, size + 1, 2 * size],
    }
    for name, choices in heights.items():
        for kernel in ({"kernel_y": 1, "kernel_x": 1, "blocks": 1}, {}):
            layers = [
                random_layer(rng, bench.config, rows=1, cols=min(rng.choice(choices), bench.config.acc_half), **kernel)
                for _ in range(12)
            ]
            await bench.run(program(layers))
            fed = [cycle for cycle, count in enumerate(bench.trace) if count == "fed"]
            ideal = sum(layer.cycles(size) for layer in layers) - max(0, size - layers[-1].outputs)
            found = fed[-1] - fed[0] + 1
            dut._log.info("%s%s: %d cycles, ideal %d", name, ", one tile each" if kernel else "", found, ideal)
            assert len(fed) == sum(layer.tiles * layer.outputs for layer in layers)
            assert found == ideal, f"{name}: cycles must be {ideal}, not {found}"
            bench.cover(name)
    bench.finish(require=heights)


def faulty(bench: Bench) -> dict[str, tuple[str, list[Instruction | int]]]:
    """For each way to be wrong: the error, and a program whose last instruction is at fault."""
    rng, config = bench.rng, bench.config
    layer = random_layer(
        rng,
        config,
        rows=1,
        cols=4,
        kernel_y=1,
        kernel_x=1,
        blocks=2,
        stride_y=1,
        stride_x=1,
        dilation_y=1,
        dilation_x=1,
    )
    tensor = make("CONFIG.EXECUTE.input", height=8, width=8, row_stride=8, block_stride=0, zero_point=0)
    good = {"act": 0, "weight": 0, "y0": 0, "x0": 0, "rows": 1, "cols": 4, "acc": 0, "accumulate": 0}

    def wrong(kernel: Instruction = layer.kernel, **changes: int) -> list[Instruction | int]:
        return [tensor, kernel, make("EXECUTE", **{**good, **changes})]

    def kernel_with(name: str) -> list[Instruction | int]:
        return wrong(dataclasses.replace(layer.kernel, values={**layer.kernel.values, name: 0}))

    cases = {
        "rows of zero": ("OPERAND", wrong(rows=0)),
        "cols of zero": ("OPERAND", wrong(cols=0)),
        **{f"{name} of zero": ("OPERAND", kernel_with(name)) for name in ("kernel_y", "kernel_x", "blocks")},
        "leaves its half": ("OPERAND", wrong(acc=config.acc_half - 3)),
        "leaves the upper half": ("OPERAND", wrong(acc=config.acc_depth - 3)),
        "weights beyond": ("SRAM_RANGE", wrong(weight=config.weight_depth - 2 * config.array + 1)),
        "activations beyond": ("SRAM_RANGE", wrong(act=config.act_depth - 3)),
        "no opcode": ("OPCODE", [tensor, layer.kernel, 0]),
        "no group": ("OPCODE", [tensor, layer.kernel, 1 | 2 << 4 | 7 << 20]),
        "opcode of another unit": ("OPCODE", [tensor, layer.kernel, 2 | 2 << 4]),
    }
    if config.acc_depth < 1 << 14:
        cases["accumulators beyond"] = "SRAM_RANGE", wrong(acc=config.acc_depth)
    return cases


@cocotb.test()
async def faults(dut):
    """Each wrong instruction is named, stops the unit, and a reset makes it work again."""
    bench = Bench(dut)
    await bench.start()
    cases = faulty(bench)
    for name, (error, instructions) in cases.items():
        first = bench.rng.randrange(1 << INDEX_BITS - 1)
        bench.retired.clear()
        task = cocotb.start_soon(bench.issue([*instructions, instructions[0]], first))
        await bench.cycles(12 * bench.config.array + 80)
        task.cancel()
        expected = CODES[error], first + 2
        assert bench.fault == expected, f"{name}: fault must be {expected}, not {bench.fault}"
        assert bench.retired == [(first, 0), (first + 1, 0)], f"{name}: {bench.retired} retired"
        bench.cover(name)
        dut.unit__instruction__valid.value = 0
        await bench.reset()
    expected = np.zeros((bench.config.acc_depth, bench.config.array), np.int32)
    layer = random_layer(bench.rng, bench.config, accumulate=0)
    execute(layer, bench.activations, bench.weights, expected)
    await bench.run(program([layer]))
    rows = slice(layer.execute["acc"], layer.execute["acc"] + layer.outputs)
    assert ((await bench.read_accumulators())[rows] == expected[rows]).all(), "wrong after reset"
    bench.finish(require=cases)


@cocotb.test()
async def halts(dut):
    """After `halt` no token is taken, and no access starts."""
    bench = Bench(dut)
    await bench.start()
    for _ in range(8):
        layers = [random_layer(bench.rng, bench.config) for _ in range(6)]
        task = cocotb.start_soon(bench.issue(program(layers), 0))
        await bench.cycles(bench.rng.randrange(5, 60))
        dut.unit__halt.value = 1
        await bench.cycles(2)
        for _ in range(60):
            await RisingEdge(dut.clk)
            for signal in (
                dut.weights__valid,
                dut.activations__valid,
                dut.unit__tokens__take,
                dut.weight_tokens__take,
                dut.unit__instruction__ready,
            ):
                assert signal.value == 0, f"{signal._name} after halt"
        task.cancel()
        bench.cover("halt while busy", dut.unit__busy.value)
        dut.unit__halt.value = dut.unit__instruction__valid.value = 0
        await bench.reset()
    bench.finish(require=("halt while busy",))
