"""The DMA units keep the memory busy; the burst splitter against its plain function."""

import random
from dataclasses import replace

import pytest
from amaranth.sim import Simulator

from systolith.config import PRESETS
from systolith.hw.dma.burst import BurstSplitter, split
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import load_activations_bench, load_weights_bench, store_bench

TINY = PRESETS["tiny4"]
BENCHES = (load_activations_bench, load_weights_bench, store_bench)


@pytest.mark.rtl
@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.NAME)
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
