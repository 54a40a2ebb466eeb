"""What the DMA testbenches share: random regions and memory, and a bench at every port of `dma_top`."""

import random

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiRam

from systolith.isa import Unit
from systolith.sim.testbench.support.dma_ports import Bursts, Instructions, ReadPort, WritePort
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.unreliable_ram import MEMORY_BYTES, stall

__all__ = ["Dma"]

UNITS = {Unit.LOAD_W: "load_weights", Unit.LOAD_A: "load_activations", Unit.STORE: "store"}


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
