"""LOAD.W against plain Python: random lengths, alignments and targets with stalls everywhere; faults; throughput."""

import cocotb

from systolith.config import Config
from systolith.isa import LoadTarget, Opcode, Unit, make
from systolith.sim.testbench.support.dma import Dma
from systolith.sim.testbench.support.dma_model import expect_load_weights, random_load_weights
from systolith.sim.testbench.support.dma_top import dma_top
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.latency_memory import hidden_latency, least_cycles, timed_dma
from systolith.sim.testbench.support.unreliable_ram import accept, refuse

NAME = "load_weights"
UNIT = Unit.LOAD_W


def component(config: Config):
    return dma_top(config)


def add(dma: Dma, count: int) -> None:
    """Random loads."""
    for _ in range(count):
        load = random_load_weights(dma)
        dma.units[UNIT].add(load)
        expect_load_weights(dma, load)


@cocotb.test()
async def random_loads(dut):
    bench = Environment(dut)
    dma = Dma(bench, idle=bench.rng.choice((0, 0.2)), busy=bench.rng.choice((0, 0.3)))
    add(dma, 80)
    await dma.start()
    await dma.finish(UNIT)
    assert not dma.weights.expected and not dma.parameters.expected, "words were not written"
    bench.finish(("LOAD.W to weights", "LOAD.W to parameters"))


@cocotb.test()
async def faults(dut):
    bench = Environment(dut)
    config, dma = bench.config, Dma(bench)
    await dma.start()
    size, limit = 5 * config.array, dma.regions[2][1]
    good = {"region": 2, "offset": 0, "sram": 0, "words": 5, "target": LoadTarget.WEIGHTS}
    cases = (
        ("OPERAND", {"words": 0}),
        ("SRAM_RANGE", {"sram": config.weight_depth - 4}),
        ("SRAM_RANGE", {"sram": 8 * config.param_depth - 4, "target": LoadTarget.PARAMETERS}),
        ("SRAM_RANGE", {"words": (1 << 20) - 1, "region": 7}),
        ("REGION_RANGE", {"offset": limit - size + 1}),
        ("REGION_RANGE", {"offset": (1 << 32) - size}),
        ("REGION_RANGE", {"offset": (1 << 32) - size + 1, "region": 7}),
        ("AXI_READ", {"region": 5, "offset": 1000 + bench.rng.randrange(64)}),
        ("OPCODE", None),
    )
    for code, operands in cases:
        add(dma, 3)
        if operands is None:
            position = dma.units[UNIT].add(bench.rng.choice((Opcode.CONFIG, Opcode.EXECUTE, Opcode.STORE)))
        else:
            load = make("LOAD.W", **good | operands)
            position = dma.units[UNIT].add(load)
        if code == "AXI_READ":
            expect_load_weights(dma, load)
            refuse(dma.ram, dma.regions[5][0] + load["offset"] + bench.rng.randrange(size))
        dma.units[UNIT].add(make("LOAD.W", **good))
        await dma.fails(UNIT, position, code)
        if code == "AXI_READ":
            accept(dma.ram)
    # And after all that it works as ever, up to the last byte and word.
    for operands in (
        {"sram": config.weight_depth - 5},
        {"sram": 8 * config.param_depth - 5, "target": LoadTarget.PARAMETERS},
    ):
        load = make("LOAD.W", **good | {"offset": limit - size} | operands)
        dma.units[UNIT].add(load)
        expect_load_weights(dma, load)
    await dma.finish(UNIT)
    bench.finish(f"fault {code}" for code, _ in cases)


@cocotb.test()
async def throughput(dut):
    """Cycles for long and short loads, one after the other, against one beat and one word a cycle."""
    bench = Environment(dut)
    n, latency = bench.config.array, hidden_latency(bench.config)
    dma = await timed_dma(bench, latency)
    for kind, words in (("long loads", bench.config.weight_depth), ("tiles", n)):
        words = min(words, 40_000 // n)
        spans = [(dma.regions[1][0] + 5 * k, words * n) for k in range(-(-2000 // words))]
        for k in range(len(spans)):
            load = make("LOAD.W", region=1, offset=5 * k, sram=0, words=words, target=LoadTarget.WEIGHTS)
            dma.units[UNIT].add(load)
            expect_load_weights(dma, load)
        least = least_cycles(bench.config, latency, spans, words)
        cycles = await dma.finish(UNIT)
        dut._log.info("RATE %s: %d cycles, at least %d", kind, cycles, least)
        assert cycles <= least / 0.95 + latency + 30, f"{kind}: {cycles} cycles, at least {least}"
    bench.finish()
