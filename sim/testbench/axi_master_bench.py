"""The AXI master under all its users at once: order, priority of fetch, counters; and halt amid everything."""

import random

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from systolith.config import Config
from systolith.isa import Unit
from systolith.sim.testbench import load_activations_bench, load_weights_bench, store_bench
from systolith.sim.testbench.support.dma import Dma
from systolith.sim.testbench.support.dma_model import StoreModel
from systolith.sim.testbench.support.dma_top import dma_top
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.unreliable_ram import MEMORY_BYTES

NAME = "axi_master"


def component(config: Config):
    return dma_top(config)


class Fetcher:
    """Reads bursts through the port of fetch, at random, and checks their beats."""

    def __init__(self, bench: Environment, dma: Dma):
        self.bench, self.dma = bench, dma
        self.expected: list[int] = []
        self.port = {
            name: getattr(bench.dut, f"fetch__{name}")
            for name in ("request__payload", "request__valid", "request__ready", "beat_valid", "beat_data")
        }
        self.stopped = False

    async def run(self) -> None:
        """Every cycle, forever."""
        bench, port, dut = self.bench, self.port, self.bench.dut
        width, offered, overtaken = bench.config.axi_bytes, False, 0
        while True:
            await RisingEdge(bench.clock)
            if port["beat_valid"].value:
                assert int(port["beat_data"].value) == self.expected.pop(0), "wrong beat, or in a wrong order"
                bench.cover("beat fetched")
            if offered:
                overtaken += int(dut.axi__arvalid.value) and int(dut.axi__arready.value)
                assert overtaken <= 1, "fetch must wait for no more than the address that is out already"
                offered = not port["request__ready"].value
            if not offered and not self.stopped and bench.rng.random() < 0.05:
                address, beats = self._choose(bench.rng)
                port["request__payload"].value = address | beats - 1 << bench.config.axi_addr_bits
                offered, overtaken = True, 0
                for k in range(beats):
                    data = self.dma.memory[address + k * width : address + (k + 1) * width]
                    self.expected.append(int.from_bytes(data, "little"))
            port["request__valid"].value = int(offered)

    def _choose(self, rng: random.Random) -> tuple[int, int]:
        """A burst in the part of memory that nobody writes."""
        config = self.bench.config
        beats = rng.randint(1, config.axi_burst)
        page = rng.randrange(self.dma.regions[4][0] // 4096) * 4096
        return page + rng.randrange(4096 // config.axi_bytes - beats + 1) * config.axi_bytes, beats


class Counts:
    """Sums of the master's counters, and of what its port shows."""

    NAMES = ("read_beat", "write_beat", "read_stall", "write_stall")

    def __init__(self, bench: Environment):
        self.bench = bench
        self.counted, self.seen = dict.fromkeys(self.NAMES, 0), dict.fromkeys(self.NAMES, 0)

    async def run(self) -> None:
        """Every cycle, forever."""
        dut = self.bench.dut
        axi = {s: getattr(dut, f"axi__{s}") for s in ("arvalid", "arready", "rvalid", "wvalid", "wready")}
        while True:
            await RisingEdge(self.bench.clock)
            counts = int(dut.counts.value)
            now = {s: int(handle.value) for s, handle in axi.items()}
            seen = (
                now["rvalid"],
                now["wvalid"] & now["wready"],
                now["arvalid"] & ~now["arready"],
                now["wvalid"] & ~now["wready"],
            )
            for k, name in enumerate(self.NAMES):
                self.counted[name] += counts >> k & 1
                self.seen[name] += seen[k]


@cocotb.test()
async def everything_at_once(dut):
    bench = Environment(dut)
    dma = Dma(bench, idle=bench.rng.choice((0, 0.1)), busy=bench.rng.choice((0, 0.2)))
    fetcher, counts, model = Fetcher(bench, dma), Counts(bench), StoreModel(dma)
    load_weights_bench.add(dma, 40)
    load_activations_bench.add(dma, 120)
    store_bench.add(dma, model, 40)
    await dma.start()
    for part in (fetcher, counts):
        cocotb.start_soon(part.run())
    await dma.finish()
    fetcher.stopped = True
    await bench.cycles(3000)
    assert dut.quiet.value and not fetcher.expected
    assert dma.ram.read(0, MEMORY_BYTES) == dma.memory, "memory differs somewhere"
    assert counts.counted == counts.seen
    assert counts.seen["read_beat"] == dma.bursts.beats["ar"] and counts.seen["write_beat"] == dma.bursts.beats["aw"]
    bench.finish(("beat fetched",))


@cocotb.test()
async def halt(dut):
    """Halted at any time, the port comes to rest, memory holds old and new bytes only, and reset makes it new."""
    bench = Environment(dut)
    dma = Dma(bench, idle=0, busy=bench.rng.choice((0, 0.2)))
    await dma.start()
    wanted = ("halt with reads in flight", "halt with writes in flight")
    for attempt in range(60):
        if attempt >= 12 and all(bench.coverage[point] for point in wanted):
            break
        model = StoreModel(dma)
        before = np.frombuffer(bytes(dma.memory), np.uint8)
        load_weights_bench.add(dma, 4)
        load_activations_bench.add(dma, 12)
        store_bench.add(dma, model, 6)
        await bench.cycles(bench.rng.randint(1, bench.rng.choice((50, 500))))
        beats = dma.bursts.beats
        bench.cover("halt with reads in flight", beats["ar"] > beats["r"])
        bench.cover("halt with writes in flight", beats["aw"] > beats["w"])
        await dma.halt()
        assert beats["ar"] == beats["r"] and beats["aw"] == beats["w"], "beats are missing"
        after = np.frombuffer(dma.ram.read(0, MEMORY_BYTES), np.uint8)
        legal = after == before
        for address, data in (piece for pieces in model.pieces.values() for piece in pieces):
            written = slice(address, address + len(data))
            legal[written] |= after[written] == np.frombuffer(data, np.uint8)
        assert legal.all(), "strange bytes in memory"
        dma.memory[:] = after.tobytes()
        await dma.reset()
    model = StoreModel(dma)
    load_weights_bench.add(dma, 4)
    load_activations_bench.add(dma, 12)
    store_bench.add(dma, model, 6)
    await dma.finish(Unit.LOAD_W, Unit.LOAD_A, Unit.STORE)
    assert dma.ram.read(0, MEMORY_BYTES) == dma.memory, "memory differs somewhere"
    bench.finish(wanted)
