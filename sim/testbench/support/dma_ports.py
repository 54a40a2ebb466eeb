"""What is at each port of the DMA units in their testbenches: instructions with tokens, SRAM, memory addresses."""

import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from cocotb.triggers import RisingEdge

from systolith import isa
from systolith.isa import Instruction
from systolith.sim.testbench.support.environment import Environment

__all__ = ["Bursts", "Instructions", "ReadPort", "WritePort"]

CODES = {error.value: error.name for error in isa.Error}


def chance(rng: random.Random, probability: float) -> bool:
    """True with this probability; drawn only if it is open."""
    return probability >= 1 or (probability > 0 and rng.random() < probability)


class Issue(NamedTuple):
    """An instruction on its way to a unit."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    word: int
    wait: int
    signal: int


class Instructions:
    """A unit's port: instructions in, tokens at random; retirements out, checked against the program's order; faults.

    `on_retire(position)` is called when the instruction at that position of the program retires. Those at positions
    in `bad` need not wait for tokens.
    """

    def __init__(self, bench: Environment, name: str, idle: float, on_retire: Callable[[int], None] = lambda _: None):
        self.bench, self.idle, self.on_retire = bench, idle, on_retire
        self.clear()
        self.port = {
            signal: getattr(bench.dut, f"{name}_unit__{signal}")
            for signal in ("give", "retired", "retired_index", "busy", "fault", "halt", "instruction__payload",
                           "instruction__valid", "instruction__ready", "tokens__need", "tokens__ready", "tokens__take")
        }  # fmt: skip
        for signal in ("halt", "instruction__valid", "tokens__ready"):
            self.port[signal].value = 0

    def clear(self) -> None:
        """Forget the program, at reset."""
        self.program: list[Issue] = []
        self.started = self.given = self.retired = 0
        self.offered = False
        self.bad: set[int] = set()
        self.fault: tuple[str, int] | None = None

    def add(self, *instructions: Instruction | int) -> int:
        """To the end of the program, with random indices; a word where it is no instruction. Position of the last."""
        for instruction in instructions:
            known = {issue.index for issue in self.program}
            index = next(i for i in iter(lambda: self.bench.rng.randrange(1 << 24), None) if i not in known)
            if isinstance(instruction, int):
                self.program.append(Issue(index, instruction, instruction >> 7 & 63, instruction >> 13 & 63))
            else:
                word = int.from_bytes(isa.encode(instruction), "little")
                self.program.append(Issue(index, word, instruction.wait, instruction.signal))
        return len(self.program) - 1

    @property
    def finished(self) -> bool:
        """All retired, and the unit idle."""
        return self.retired == len(self.program) and not self.port["busy"].value

    async def run(self) -> None:
        """Every cycle, forever."""
        port, rng = self.port, self.bench.rng
        while True:
            await RisingEdge(self.bench.clock)
            if self.offered and port["instruction__ready"].value:
                self._check_start()
                self.offered = False
            self._observe()
            if not self.offered and self.given < len(self.program) and not chance(rng, self.idle):
                issue = self.program[self.given]
                port["instruction__payload"].value = issue.word | issue.index << 128
                self.offered = True
                self.given += 1
            port["instruction__valid"].value = int(self.offered)
            port["tokens__ready"].value = int(not chance(rng, self.idle))

    def _check_start(self) -> None:
        want = self.program[self.started].wait
        need, take = int(self.port["tokens__need"].value), int(self.port["tokens__take"].value)
        assert take and self.port["tokens__ready"].value, "started without tokens"
        assert need in (want, 0 if self.started in self.bad else want), f"took tokens {need:06b}, not {want:06b}"
        self.started += 1

    def _observe(self) -> None:
        port = self.port
        if port["retired"].value:
            issue = self.program[self.retired]
            assert self.retired < self.started, "retired before it started"
            assert int(port["retired_index"].value) == issue.index, f"position {self.retired}: wrong index retired"
            assert int(port["give"].value) == issue.signal, "gave tokens to the wrong units"
            self.on_retire(self.retired)
            self.retired += 1
        else:
            assert not port["give"].value, "tokens without retirement"
        if (fault := int(port["fault"].value)) and self.fault is None:
            self.fault = CODES[fault & 0xFF], fault >> 8


class WritePort:
    """An SRAM write port that refuses at random, and holds what comes to the expected (address, mask, data)."""

    def __init__(self, bench: Environment, name: str, busy: float):
        self.bench, self.busy, self.name = bench, busy, name
        self.expected: deque[tuple[int, int, int]] = deque()
        self.count = 0
        self.halted = False
        self.port = {s: getattr(bench.dut, f"{name}__{s}") for s in ("valid", "ready", "address", "data", "mask")}
        self.port["ready"].value = 0

    async def run(self) -> None:
        """Every cycle, forever."""
        port, ready = self.port, False
        while True:
            await RisingEdge(self.bench.clock)
            if port["valid"].value:
                assert not self.halted, f"{self.name}: a write after halt"
                if ready:
                    self._check()
                else:
                    self.bench.cover("SRAM write refused")
            ready = not chance(self.bench.rng, self.busy)
            port["ready"].value = int(ready)

    def _check(self) -> None:
        address, mask, data = (int(self.port[s].value) for s in ("address", "mask", "data"))
        assert self.expected, f"{self.name}: unexpected write to {address}"
        want = self.expected.popleft()
        bits = sum(0xFF << 8 * i for i in range(self.bench.config.array) if mask >> i & 1)
        found = (address, mask, data & bits)
        assert found == want, f"{self.name}: write {self.count}: (address, mask, data) {found}, not {want}"
        self.count += 1


class ReadPort:
    """An SRAM read port that refuses at random; data comes after the latency, and garbage in all other cycles."""

    def __init__(self, bench: Environment, name: str, busy: float, memory: list[int]):
        self.bench, self.busy, self.memory = bench, busy, memory
        self.port = {s: getattr(bench.dut, f"{name}__{s}") for s in ("valid", "ready", "address", "data")}
        self.port["ready"].value = 0

    async def run(self) -> None:
        """Every cycle, forever."""
        port, rng, ready, on_the_way = self.port, self.bench.rng, False, None
        width = 8 * self.bench.config.array
        while True:
            await RisingEdge(self.bench.clock)
            port["data"].value = rng.getrandbits(width) if on_the_way is None else self.memory[on_the_way]
            on_the_way = None
            if port["valid"].value:
                if ready:
                    on_the_way = int(port["address"].value)
                else:
                    self.bench.cover("SRAM read refused")
            ready = not chance(rng, self.busy)
            port["ready"].value = int(ready)


class Bursts:
    """Checks every address on the memory port: aligned, at most `axi_burst` beats, in no two pages, inside a region."""

    def __init__(self, bench: Environment, regions: list[tuple[int, int]]):
        self.bench, self.regions = bench, regions
        # Bursts requested; beats requested, and transferred.
        self.requested = {"ar": 0, "aw": 0}
        self.beats = {"ar": 0, "aw": 0, "r": 0, "w": 0}

    async def run(self) -> None:
        """Every cycle, forever."""
        dut = self.bench.dut
        ports = {p: [getattr(dut, f"axi__{p}{s}") for s in ("valid", "ready", "addr", "len")] for p in ("ar", "aw")}
        data = {p: [getattr(dut, f"axi__{p}{s}") for s in ("valid", "ready")] for p in ("r", "w")}
        while True:
            await RisingEdge(self.bench.clock)
            for prefix, (valid, ready) in data.items():
                self.beats[prefix] += int(valid.value) & int(ready.value)
            for prefix, (valid, ready, address, length) in ports.items():
                if valid.value and ready.value:
                    self._check(int(address.value), int(length.value) + 1)
                    self.requested[prefix] += 1
                    self.beats[prefix] += int(length.value) + 1

    def _check(self, address: int, beats: int) -> None:
        config = self.bench.config
        size = beats * config.axi_bytes
        assert address % config.axi_bytes == 0 and beats <= config.axi_burst
        assert address // 4096 == (address + size - 1) // 4096, "a burst crosses 4 KiB"
        # The outer beats may hold bytes that are not accessed.
        slack = config.axi_bytes - 1
        assert any(b - slack <= address and address + size <= b + limit + slack for b, limit in self.regions), (
            f"burst of {size} bytes at {address:#x} is outside all regions"
        )
        if beats == config.axi_burst:
            self.bench.cover("longest burst")
        if (address + size) % 4096 == 0:
            self.bench.cover("burst up to a page's end")
