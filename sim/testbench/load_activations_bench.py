"""LOAD.A against plain Python: random windows, padding and alignment with stalls everywhere; faults; throughput."""

import cocotb

from systolith.config import Config
from systolith.isa import ADDRESS_BITS, Opcode, Unit, make
from systolith.sim.testbench.support.control_programs import word as header_word
from systolith.sim.testbench.support.dma import Dma
from systolith.sim.testbench.support.dma_model import (
    LoadSource,
    expect_load_activations,
    random_load_activations,
    random_source,
)
from systolith.sim.testbench.support.dma_top import dma_top
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.latency_memory import hidden_latency, least_cycles, timed_dma
from systolith.sim.testbench.support.unreliable_ram import accept, refuse

NAME = "load_activations"
UNIT = Unit.LOAD_A


def component(config: Config):
    return dma_top(config)


def add(dma: Dma, count: int) -> None:
    """Random loads, with other constants before each third of them."""
    constants = None
    for _ in range(count):
        if constants is None or dma.bench.rng.random() < 0.3:
            constants = random_source(dma)
            dma.units[UNIT].add(constants.source, constants.window)
        load = random_load_activations(dma, constants)
        dma.units[UNIT].add(load)
        expect_load_activations(dma, constants, load)


def plain(config: Config, row_bytes: int, **window: int) -> LoadSource:
    """Constants for rows that all exist, of words that follow each other, unless said otherwise."""
    fields = {"step": config.array, "length": config.array, "lane": 0, "zero_point": -3, "row_stride": 1} | window
    return LoadSource(
        make("CONFIG.LOAD_A.source", row_pitch=row_bytes, height=1 << 13, row_step=1, row_bytes=row_bytes),
        make("CONFIG.LOAD_A.window", **fields),
    )


@cocotb.test()
async def random_loads(dut):
    bench = Environment(dut)
    dma = Dma(bench, idle=bench.rng.choice((0, 0.2)), busy=bench.rng.choice((0, 0.3)))
    add(dma, 300)
    await dma.start()
    await dma.finish(UNIT)
    assert not dma.activations.expected, "words were not written"
    bench.finish(("plain windows", "gather windows", "skip windows", "lane offset", "row outside the tensor",
                  "offset before the region", "bytes before the row", "bytes after the row"))  # fmt: skip


@cocotb.test()
async def faults(dut):
    bench = Environment(dut)
    n, depth, dma = bench.config.array, bench.config.act_depth, Dma(bench)
    await dma.start()
    good = {"region": 1, "offset": 0, "sram": 0, "rows": 4, "cols": 3, "x0": 0, "y0": 0}
    limit = dma.regions[1][1]
    # Four rows of 3N bytes.
    cases = (
        ("OPERAND", {"rows": 0}, {}), ("OPERAND", {"cols": 0}, {}), ("OPERAND", {}, {"length": 0}),
        ("OPERAND", {}, {"step": 0}), ("OPERAND", {}, {"lane": 1}), ("OPERAND", {}, {"length": n + 1}),
        ("SRAM_RANGE", {"sram": depth - 5}, {}), ("SRAM_RANGE", {}, {"row_stride": (1 << ADDRESS_BITS) - 1}),
        ("REGION_RANGE", {"offset": limit - 12 * n + 1}, {}), ("REGION_RANGE", {"offset": (1 << 32) - 1}, {}),
        ("AXI_READ", {"region": 5, "offset": 1000 + bench.rng.randrange(64)}, {}),
    )  # fmt: skip
    for code, operands, window in cases:
        add(dma, 3)
        constants = plain(bench.config, 3 * n, **window)
        load = make("LOAD.A", **good | operands)
        dma.units[UNIT].add(constants.source, constants.window)
        position = dma.units[UNIT].add(load)
        if code != "OPERAND":
            expect_load_activations(dma, constants, load)
        if code == "AXI_READ":
            refuse(dma.ram, dma.regions[5][0] + load["offset"] + bench.rng.randrange(12 * n))
        dma.units[UNIT].add(load, constants.source)
        await dma.fails(UNIT, position, code)
        if code == "AXI_READ":
            accept(dma.ram)
    load = header_word(Opcode.LOAD, Unit.LOAD_A)
    undefined = header_word(Opcode.CONFIG, Unit.LOAD_A, payload=2), header_word(Opcode.STORE, Unit.LOAD_A)
    for word in (0, load, *undefined):
        opcode = "OPERAND" if word == load else "OPCODE"
        await dma.fails(UNIT, dma.units[UNIT].add(word), opcode)
    # And after all that it works as ever: words of the last rows may end where SRAM and region end.
    constants = plain(bench.config, 3 * n)
    load = make("LOAD.A", **good | {"offset": limit - 12 * n, "sram": depth - 6})
    dma.units[UNIT].add(constants.source, constants.window, load)
    expect_load_activations(dma, constants, load)
    await dma.finish(UNIT)
    bench.finish(f"fault {code}" for code in ("OPCODE", "OPERAND", "SRAM_RANGE", "REGION_RANGE", "AXI_READ"))


@cocotb.test()
async def throughput(dut):
    """Cycles for rows of some kinds, against one beat and one word a cycle."""
    bench = Environment(dut)
    n, latency = bench.config.array, hidden_latency(bench.config)
    dma = await timed_dma(bench, latency)
    cols = min(14, bench.config.act_depth // 2)
    rows = min(bench.config.act_depth // cols, 40_000 // (cols * n))
    # Of a row whose windows overlap, words wait for more beats than they use up, if they are longer than a beat.
    more = 2 if n > bench.config.axi_bytes else 0
    kinds = {
        "whole rows": (plain(bench.config, cols * n, row_stride=cols), 0),
        "padded rows": (plain(bench.config, cols * n - 2 * n, row_stride=cols), -n),
        "overlapping windows": (plain(bench.config, cols + n, step=1, row_stride=cols), 0),
        "parts of words": (plain(bench.config, 3 * cols, step=3, length=3, lane=1, row_stride=cols), 0),
    }
    for kind, (constants, x0) in kinds.items():
        loads = [
            make("LOAD.A", region=1, offset=k, sram=0, rows=rows, cols=cols, x0=x0, y0=0)
            for k in range(-(-1500 // (rows * cols)))
        ]
        pitch = constants.source["row_bytes"]
        spans = [(dma.regions[1][0] + load["offset"] + r * pitch, pitch) for load in loads for r in range(rows)]
        least = least_cycles(bench.config, latency, spans, cols + (more if constants.window["step"] < n else 0))
        for load in loads:
            expect_load_activations(dma, constants, load)
        dma.units[UNIT].add(constants.source, constants.window, *loads)
        cycles = await dma.finish(UNIT)
        dut._log.info("RATE %s: %d cycles, at least %d", kind, cycles, least)
        assert cycles <= least / 0.95 + latency + 30, f"{kind}: {cycles} cycles, at least {least}"
    bench.finish()
