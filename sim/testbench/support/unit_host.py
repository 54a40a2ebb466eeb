"""What surrounds a computing unit in its testbench: queue, tokens and SRAMs, and a monitor of what retires."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout

from systolith.isa import Error, Instruction, encode
from systolith.sim.testbench.support.convolution_model import Layer
from systolith.sim.testbench.support.environment import Environment

__all__ = ["LOAD_W", "UnitHost", "check_halts", "program"]

INDEX_BITS = 24
LOAD_W = 1
LATENCY = 2


class UnitHost(Environment):
    """A unit (with its accumulators) that reads weights and activations, and what surrounds it; `run` executes a
    program.

    `token_ports`: the masks of units that each token port takes tokens of. `refusals`: the share of cycles in which
    the SRAMs are not ready, for a unit that may be refused.
    """

    def __init__(self, dut, token_ports: Mapping[str, int]):
        super().__init__(dut)
        size = self.config.array
        draw = self.numpy.integers
        self.activations = draw(-128, 128, (self.config.act_depth, size), np.int8)
        self.weights = draw(-128, 128, (self.config.weight_depth, size), np.int8)
        self.token_ports = token_ports
        self.retired: list[tuple[int, int]] = []
        self.token_rate = self.issue_rate = 1.0
        self.refusals = 0.0
        self.may_fault = False
        self.taken: Counter[int] = Counter()
        for name in (
            "unit__instruction__valid",
            "unit__instruction__payload",
            "unit__halt",
            "read__valid",
            "read__address",
            "weights__data",
            "activations__data",
            *(f"{port}__ready" for port in token_ports),
        ):
            getattr(dut, name).value = 0
        dut.weights__ready.value = dut.activations__ready.value = 1

    async def start(self):
        """Reset, and start what surrounds the unit."""
        await self.reset()
        cocotb.start_soon(self._memory("weights", self.weights))
        cocotb.start_soon(self._memory("activations", self.activations))
        for port, allowed in self.token_ports.items():
            cocotb.start_soon(self._tokens(port, allowed))
        cocotb.start_soon(self._monitor())

    async def _memory(self, port: str, content: np.ndarray):
        """Answers each request it takes LATENCY cycles later, and rubbish otherwise."""
        valid, ready, address, data = (
            getattr(self.dut, f"{port}__{name}") for name in ("valid", "ready", "address", "data")
        )
        rubbish = self.rng.getrandbits(8 * content.shape[1])
        answers = [rubbish] * (LATENCY - 1)
        while True:
            await RisingEdge(self.clock)
            data.value = answers.pop(0)
            ready.value = self.rng.random() >= self.refusals
            if valid.value and ready.value:
                where = int(address.value)
                assert where < len(content), f"{port}: read at {where} of {len(content)}"
                answers.append(int.from_bytes(content[where].tobytes(), "little"))
            else:
                answers.append(rubbish)
                self.cover(f"{port} refused", valid.value)

    async def _tokens(self, port: str, allowed: int):
        """Gives the tokens asked for at a random time; they must be inside `allowed`."""
        need, ready, take = (getattr(self.dut, f"{port}__{name}") for name in ("need", "ready", "take"))
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
        """Looks at every cycle."""
        while True:
            await RisingEdge(self.clock)
            self.monitor()

    def monitor(self) -> None:
        """Notes what retires."""
        dut = self.dut
        assert self.may_fault or self.fault[0] == 0, f"fault {self.fault}"
        if dut.unit__retired.value:
            self.retired.append((int(dut.unit__retired_index.value), int(dut.unit__give.value)))
        else:
            assert dut.unit__give.value == 0

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
        await with_timeout(self.issue(instructions, first), 5, "ms")
        await self.cycles(1)
        while self.dut.unit__busy.value:
            await RisingEdge(self.clock)
        await self.cycles(2)
        expected = [(first + i, instruction.signal) for i, instruction in enumerate(instructions)]
        assert self.retired == expected, f"retired must be {expected}, not {self.retired}"
        masks = Counter()
        for instruction in instructions:
            masks.update(mask for allowed in self.token_ports.values() if (mask := instruction.wait & allowed))
        assert self.taken == masks, f"tokens taken must be {masks}, not {self.taken}"

    async def provoke(self, name: str, error: str, instructions: Sequence[Instruction | int], place: int, cycles: int):
        """Issue a program whose instruction at `place` is at fault, and must be reported within so many cycles.

        Returns the index of its first instruction. `reset` has to follow.
        """
        first = self.rng.randrange(1 << INDEX_BITS - 1)
        self.may_fault = True
        self.retired.clear()
        task = cocotb.start_soon(self.issue(instructions, first))
        await self.cycles(cycles)
        task.cancel()
        self.dut.unit__instruction__valid.value = 0
        expected = Error[error], first + place
        assert self.fault == expected, f"{name}: fault must be {expected}, not {self.fault}"
        self.cover(name)
        return first

    async def read_accumulators(self, depth: int) -> np.ndarray:
        """All rows, through the port of the SFU."""
        dut, rows = self.dut, []
        for address in range(depth + LATENCY):
            dut.read__valid.value, dut.read__address.value = 1, address % depth
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
        return replace(instruction, wait=wait, signal=signal)


def program(layers: Sequence[Layer], bench: UnitHost | None = None) -> list[Instruction]:
    """CONFIG only where it changes; if there is a bench, sometimes more often, and with random masks."""
    instructions, before = [], None
    for layer in layers:
        for part in ("tensor", "kernel"):
            if before is None or getattr(layer, part) != getattr(before, part):
                instructions.append(getattr(layer, part))
            while bench and bench.rng.random() < 0.3:
                instructions.append(getattr(layer, part))
        instructions.append(layer.run)
        before = layer
    return [bench.with_masks(i) for i in instructions] if bench else instructions


async def check_halts(bench: UnitHost, draw: Callable[[], Sequence[Layer]], latest: int, signals: Sequence[str]):
    """Halt the unit at random times, up to cycle `latest`, of random programs: these signals stay low from then on."""
    for _ in range(8):
        task = cocotb.start_soon(bench.issue(program(draw()), 0))
        await bench.cycles(bench.rng.randrange(5, latest))
        bench.dut.unit__halt.value = 1
        await bench.cycles(2)
        for _ in range(60):
            await RisingEdge(bench.clock)
            for name in signals:
                assert getattr(bench.dut, name).value == 0, f"{name} after halt"
        task.cancel()
        bench.cover("halt while busy", bench.dut.unit__busy.value)
        bench.dut.unit__halt.value = bench.dut.unit__instruction__valid.value = 0
        await bench.reset()
    bench.finish(require=("halt while busy",))
