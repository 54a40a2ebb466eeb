"""Answers that the AXI master must not take: of bursts that a reset cut, and of none."""

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from systolith.config import PRESETS
from systolith.hw.dma.axi_master import AxiMaster

TINY = PRESETS["tiny4"]


def simulate(scenario) -> None:
    """Run `scenario(ctx, dut, reset)` on a master whose memory port takes every address."""
    m, domain, dut = Module(), ClockDomain("sync"), AxiMaster(TINY)
    m.domains.sync, m.submodules.dut = domain, dut

    async def testbench(ctx):
        ctx.set(dut.axi.arready, 1)
        ctx.set(dut.axi.awready, 1)
        ctx.set(dut.axi.wready, 1)
        await ctx.tick()

        async def reset():
            ctx.set(domain.rst, 1)
            for _ in range(3):
                await ctx.tick()
            ctx.set(domain.rst, 0)

        await scenario(ctx, dut, reset)

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()


async def ask(ctx, bus) -> None:
    """A burst of one beat."""
    ctx.set(bus.request.valid, 1)
    await ctx.tick().until(bus.request.ready)
    ctx.set(bus.request.valid, 0)
    await ctx.tick()


async def beat(ctx, dut, number: int) -> bool:
    """A last beat with this ID. Returns whether some unit gets it; it counts where one does."""
    ctx.set(dut.axi.rid, number)
    ctx.set(dut.axi.rlast, 1)
    ctx.set(dut.axi.rvalid, 1)
    counted = ctx.get(dut.counts.read_beat)
    await ctx.tick()
    ctx.set(dut.axi.rvalid, 0)
    taken = any(ctx.get(bus.beat_valid) for bus in (dut.fetch, dut.load_weights, dut.load_activations))
    assert counted == taken
    return taken


async def response(ctx, dut, number: int) -> bool:
    """A write response with this ID. Returns whether the store unit gets it."""
    ctx.set(dut.axi.bid, number)
    ctx.set(dut.axi.bvalid, 1)
    await ctx.tick()
    ctx.set(dut.axi.bvalid, 0)
    return bool(ctx.get(dut.store.done))


@pytest.mark.parametrize("unit", ["fetch", "load_weights", "load_activations"])
def test_beats_of_cut_bursts_are_dropped(unit: str):
    async def scenario(ctx, dut, reset):
        bus = getattr(dut, unit)
        await ask(ctx, bus)
        await reset()
        assert ctx.get(dut.quiet) and ctx.get(dut.axi.arid) == 1
        assert not await beat(ctx, dut, 0)
        await ask(ctx, bus)
        assert not await beat(ctx, dut, 0)
        assert await beat(ctx, dut, 1)
        assert ctx.get(dut.quiet)

    simulate(scenario)


def test_responses_of_cut_bursts_are_dropped():
    async def scenario(ctx, dut, reset):
        ctx.set(dut.store.beat.valid, 1)
        await ask(ctx, dut.store)
        await reset()
        assert ctx.get(dut.quiet) and ctx.get(dut.axi.awid) == 1
        assert not await response(ctx, dut, 0)
        await ask(ctx, dut.store)
        assert not await response(ctx, dut, 0)
        assert not ctx.get(dut.quiet)
        assert await response(ctx, dut, 1)
        assert ctx.get(dut.quiet)

    simulate(scenario)


def test_a_reset_at_rest_keeps_the_id():
    async def scenario(ctx, dut, reset):
        for _ in range(3):
            await reset()
            assert ctx.get(dut.axi.arid) == ctx.get(dut.axi.awid) == 0
        await ask(ctx, dut.fetch)
        assert await beat(ctx, dut, 0)
        await reset()
        assert ctx.get(dut.axi.arid) == 0

    simulate(scenario)


def test_answers_that_nobody_asked_for_are_dropped():
    async def scenario(ctx, dut, reset):
        await reset()
        assert not await beat(ctx, dut, 0)
        assert not await response(ctx, dut, 0)
        assert ctx.get(dut.quiet)
        await ask(ctx, dut.load_weights)
        assert await beat(ctx, dut, 0)
        assert not await beat(ctx, dut, 0)
        await ask(ctx, dut.store)
        assert await response(ctx, dut, 0)
        assert not await response(ctx, dut, 0)
        assert ctx.get(dut.quiet)

    simulate(scenario)
