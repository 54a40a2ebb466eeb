"""The testbenches of the DMA units and the AXI master, and the burst splitter against its plain function."""

import random
from dataclasses import replace

import pytest
from amaranth.sim import Simulator

from systolith.config import PRESETS
from systolith.hw.dma.burst import BurstSplitter, split
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import axi_master_bench, load_activations_bench, load_weights_bench, store_bench

TINY = PRESETS["tiny4"]
# Words longer than a beat, and not a multiple of it; an address wider than 32 bits.
TWELVE = replace(TINY, name="twelve", array=12, sfu_lanes=4, axi_addr_bits=36, axi_outstanding=16, axi_buffer=256)
BENCHES = (load_activations_bench, load_weights_bench, store_bench, axi_master_bench)


@pytest.mark.parametrize("config", [TINY, TWELVE], ids=lambda config: config.name)
@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.NAME)
def test_dma(bench, config):
    result = run_bench(bench.component(config), bench.__name__, config, seed=1)
    assert result.passed, result.log


@pytest.mark.parametrize("bench", BENCHES[:3], ids=lambda bench: bench.NAME)
def test_throughput(bench):
    """The standard memory hidden by the standard configuration."""
    config = PRESETS["edge16"]
    result = run_bench(bench.component(config), bench.__name__, config, seed=1, testcase="throughput")
    assert result.passed and result.tests == 1, result.log


@pytest.mark.parametrize("longest", [1, 16, 256])
def test_burst_splitter(longest):
    config = replace(TINY, axi_burst=longest, axi_buffer=max(64, 2 * longest))
    rng = random.Random(longest)
    spans = [(rng.randrange(1 << 16), rng.choice((1, 2, rng.randint(1, 900)))) for _ in range(100)]
    expected = [burst for address, beats in spans for burst in split(address, beats, config)]
    dut, found, cycles = BurstSplitter(config, 10), [], 0

    async def drive(ctx):
        for address, beats in spans:
            ctx.set(dut.span.payload, {"address": address, "beats": beats})
            ctx.set(dut.span.valid, 1)
            await ctx.tick().until(dut.span.ready)
        ctx.set(dut.span.valid, 0)

    async def collect(ctx):
        nonlocal cycles
        ctx.set(dut.burst.ready, 1)
        while len(found) < len(expected):
            _, _, valid, burst = await ctx.tick().sample(dut.burst.valid, dut.burst.payload)
            cycles += 1
            if valid:
                found.append((burst.address, burst.beats + 1))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.add_testbench(collect)
    simulator.run()
    assert found == expected
    assert cycles <= len(expected) + 2, "one burst a cycle, also from one span to the next"
    for address, beats in expected:
        assert beats <= longest and address // 4096 == (address + beats * config.axi_bytes - 1) // 4096
