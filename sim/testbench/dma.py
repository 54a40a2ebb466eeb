"""What the DMA testbenches share: the three DMA units behind one AXI master, with a bench at every other port.

`dma_top` is the hardware under test. Memory is cocotbext-axi's AxiRam; its channels stall at random.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiRam

from systolith import isa
from systolith.config import Config
from systolith.isa import Instruction, Unit
from systolith.sim.testbench.environment import Environment

__all__ = ["MEMORY_BYTES", "UNITS", "Bursts", "Dma", "Instructions", "ReadPort", "WritePort", "accept", "dma_top",
           "refuse", "stall"]  # fmt: skip

UNITS = {Unit.LOAD_W: "load_weights", Unit.LOAD_A: "load_activations", Unit.STORE: "store"}
MEMORY_BYTES = 1 << 20
CODES = {code: name for code, (name, _) in isa.ERRORS.items()}


def dma_top(config: Config):
    """LoadWeights, LoadActivations and Store on an AxiMaster; ports `<unit>_unit`, SRAM ports, `fetch`, `axi`."""
    from amaranth.hdl import Module
    from amaranth.lib import wiring
    from amaranth.lib.wiring import In, Out, connect, flipped

    from systolith.hw.axi import Axi4
    from systolith.hw.axi_master import AxiCounts, AxiMaster
    from systolith.hw.interfaces import ReadBus, Regions
    from systolith.hw.load_activations import LoadActivations
    from systolith.hw.load_weights import LoadWeights
    from systolith.hw.store import Store

    units = {"load_weights": LoadWeights(config), "load_activations": LoadActivations(config), "store": Store(config)}
    outside = {
        f"{name}_{port}": member
        for name, unit in units.items()
        for port, member in unit.signature.members.items()
        if port not in ("bus", "regions")
    }

    class DmaTop(wiring.Component):
        def __init__(self):
            super().__init__(
                {
                    **outside,
                    "regions": Out(Regions(config)),
                    "fetch": In(ReadBus(config)),
                    "axi": Out(Axi4(config)),
                    "quiet": Out(1),
                    "halt": In(1),
                    "counts": Out(AxiCounts),
                }
            )

        def elaborate(self, platform):
            m = Module()
            m.submodules.master = master = AxiMaster(config)
            connect(m, flipped(self.fetch), master.fetch)
            connect(m, master.axi, flipped(self.axi))
            m.d.comb += [self.quiet.eq(master.quiet), self.counts.eq(master.counts), master.halt.eq(self.halt)]
            for name, unit in units.items():
                m.submodules[name] = unit
                connect(m, unit.bus, getattr(master, name))
                connect(m, unit.regions, flipped(self.regions))
                for port in unit.signature.members:
                    if port not in ("bus", "regions"):
                        connect(m, getattr(unit, port), flipped(getattr(self, f"{name}_{port}")))
            return m

    return DmaTop()


def accept(ram: AxiRam) -> None:
    """Undo `refuse`."""
    del ram.read_if._read, ram.write_if._write


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


class Dma:
    """The environment of all DMA testbenches: random regions, memory of random bytes, and every port's bench.

    `idle`: chance of no instruction, and of no token, in a cycle; `busy`: of a refused SRAM access.
    """

    def __init__(self, bench: Environment, idle: float = 0.2, busy: float = 0.2, memory=None):
        self.bench = bench
        rng, config, dut = bench.rng, bench.config, bench.dut
        self.memory = bytearray(bench.numpy.bytes(MEMORY_BYTES))
        if memory is None:
            self.ram = AxiRam(AxiBus.from_prefix(dut, "axi_"), dut.clk, size=MEMORY_BYTES)
            stall(self.ram, rng)
        else:
            self.ram = memory
        self.ram.write(0, bytes(self.memory))
        self.regions = self._regions(rng)
        words = [rng.getrandbits(8 * config.array) for _ in range(config.act_depth)]
        self.units = {unit: Instructions(bench, name, idle) for unit, name in UNITS.items()}
        self.weights = WritePort(bench, "load_weights_weights", busy)
        self.parameters = WritePort(bench, "load_weights_parameters", busy)
        self.activations = WritePort(bench, "load_activations_write", busy)
        self.words = words
        self.stored = ReadPort(bench, "store_read", busy, words)
        self.bursts = Bursts(bench, self.regions)
        dut.halt.value = 0
        dut.fetch__request__valid.value = 0

    def _regions(self, rng: random.Random) -> list[tuple[int, int]]:
        """(base, limit) of eight regions at any byte; the last one is all there is."""
        size = MEMORY_BYTES // 8
        regions = [(r * size + rng.randrange(size // 2), size // 2 - rng.randrange(64)) for r in range(7)]
        regions.append((0, 1 << 32))
        width = self.bench.config.axi_addr_bits + 33
        table = sum((base | limit << width - 33) << r * width for r, (base, limit) in enumerate(regions))
        self.bench.dut.regions__table.value = table
        return regions

    async def start(self) -> None:
        """Reset, and every port's bench at work."""
        await self.bench.reset()
        ports = (self.weights, self.parameters, self.activations, self.stored, self.bursts)
        for part in (*self.units.values(), *ports):
            cocotb.start_soon(part.run())

    async def reset(self) -> None:
        """After halt: everything is forgotten but the memory."""
        for unit in self.units.values():
            unit.clear()
        for port in (self.weights, self.parameters, self.activations):
            port.expected.clear()
        await self.bench.reset()
        self.bench.dut.halt.value = 0
        for unit in self.units.values():
            unit.port["halt"].value = 0
            unit.fault = None
        for port in (self.weights, self.parameters, self.activations):
            port.halted = False

    async def finish(self, *units: Unit, limit: int = 200_000) -> int:
        """Wait until these units have retired everything (all of them if none is named); returns the cycles it took."""
        waited = [self.units[unit] for unit in units or UNITS]
        for cycle in range(limit):
            if all(unit.finished for unit in waited):
                return cycle
            for unit in waited:
                assert unit.fault is None, f"fault {unit.fault}"
            await RisingEdge(self.bench.clock)
        raise AssertionError(f"not finished after {limit} cycles: {[(u.retired, len(u.program)) for u in waited]}")

    async def fails(self, unit: Unit, position: int, code: str) -> None:
        """Wait for this fault; then halt, reset, and take what is in memory as given."""
        port = self.units[unit]
        port.bad.add(position)
        found = await self.until_fault(unit)
        assert found == (code, position), f"fault (code, position) {found}, not {(code, position)}"
        assert port.retired <= position, "retired an instruction that failed"
        await self.halt()
        await self.reset()
        self.memory[:] = self.ram.read(0, MEMORY_BYTES)
        self.bench.cover(f"fault {code}")

    async def until_fault(self, unit: Unit, limit: int = 50_000) -> tuple[str, int]:
        """Wait for the unit's fault; returns its code and the position of its instruction in the program."""
        port = self.units[unit]
        for _ in range(limit):
            if port.fault is not None:
                code, index = port.fault
                return code, [issue.index for issue in port.program].index(index)
            await RisingEdge(self.bench.clock)
        raise AssertionError(f"no fault after {limit} cycles: {port.retired} of {len(port.program)} retired")

    async def halt(self) -> None:
        """Halt everything, in the next cycle, and wait until the memory port is quiet; it must stay so."""
        dut = self.bench.dut
        for unit in self.units.values():
            unit.port["halt"].value = 1
        dut.halt.value = 1
        await RisingEdge(self.bench.clock)
        for port in (self.weights, self.parameters, self.activations):
            port.halted = True
        for _ in range(20_000):
            await RisingEdge(self.bench.clock)
            if dut.quiet.value:
                break
        requested = dict(self.bursts.requested)
        for _ in range(100):
            await RisingEdge(self.bench.clock)
            assert dut.quiet.value, "the memory port must stay quiet after halt"
        assert requested == self.bursts.requested


def stall(ram: AxiRam, rng: random.Random) -> None:
    """Each channel pauses at random, some of them for long, each with its own frequency."""

    def pauses(frequency: float) -> Iterator[bool]:
        while True:
            for _ in range(rng.choice((1, 1, 2, 30))):
                yield rng.random() < frequency

    for channel in (ram.read_if.ar_channel, ram.read_if.r_channel, ram.write_if.aw_channel, ram.write_if.w_channel,
                    ram.write_if.b_channel):  # fmt: skip
        channel.set_pause_generator(pauses(rng.choice((0, 0.2, 0.5))))


def refuse(ram: AxiRam, address: int) -> None:
    """From now on the memory answers accesses to the beat that holds `address` with an error."""
    width = ram.read_if.byte_lanes

    async def check(at: int) -> None:
        if at // width == address // width:
            raise ValueError("refused")

    async def read(at: int, length: int) -> bytes:
        await check(at)
        return bytes(ram.read(at % MEMORY_BYTES, length))

    async def write(at: int, data: bytes) -> None:
        await check(at)
        ram.write(at % MEMORY_BYTES, data)

    ram.read_if._read, ram.write_if._write = read, write
