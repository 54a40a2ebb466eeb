"""Fetch, dispatch, queues, tokens and supervisor: random programs, a stalling memory, units that only take time."""

import cocotb

from systolith.config import Config
from systolith.isa import Opcode, Unit
from systolith.registers import STATUS_BUSY
from systolith.sim.testbench.support.control_host import BASE, LOAD_W, ControlHost
from systolith.sim.testbench.support.control_programs import (
    END,
    FENCE,
    pairs,
    random_program,
    units,
    without_tokens,
    word,
    work,
)

NAME = "control"


def component(config: Config):
    from systolith.hw.control.control import Control

    return Control(config)


async def ready(dut) -> ControlHost:
    bench = ControlHost(dut)
    await bench.env.reset()
    return bench


@cocotb.test()
async def programs(dut):
    """Random programs, one after the other without a reset; sizes and places that cross 4 KiB."""
    bench = await ready(dut)
    for length in (0, 1, 2, 3, 5, 17, 100, 300, *(bench.rng.randrange(200) for _ in range(6))):
        program = random_program(bench.rng, bench.config, length)
        # Refuse what lies beyond END, in the region or behind it.
        spare = bench.rng.choice((0, 0, 1, 7, 64, 100))
        place = bench.rng.randrange(4096 // bench.config.axi_bytes)
        base = 4096 * (1 + bench.rng.randrange(16)) + bench.config.axi_bytes * place
        await bench.load(program, base, 16 * (len(program) + spare) + bench.rng.choice((0, 5)))
        if spare > 1:
            bench.memory.bad = 16 * len(program) + 32
        await bench.run()
        bench.check_done()
        bench.env.cover("read ahead of END", spare > 1)
        bench.env.cover("FENCE", program.count(FENCE))
        bench.env.cover("crosses 4 KiB", base // 4096 != (base + 16 * len(program)) // 4096)
    bench.env.finish(require=("read ahead of END", "FENCE", "crosses 4 KiB"))


@cocotb.test()
async def end_of_two_bursts(dut):
    """The last beat of END in a burst of its own, asked for late, since slow units keep fetch's buffer full."""
    bench = await ready(dut)
    for length in (60, 100, 101):
        program = [word(Opcode.LOAD, Unit.LOAD_W)] * length + [END]
        beat = bench.config.axi_bytes
        await bench.load(program, base=(0x10_0000 - 16 * len(program) + beat % 16) // beat * beat)
        bench.memory.pause, bench.units[Unit.LOAD_W].slow = 0, 0.9
        await bench.run()
        bench.check_done()
        bench.env.cover("END at a boundary")
    bench.env.finish(require=("END at a boundary",))


@cocotb.test()
async def undefined(dut):
    """Headers that are not an instruction's, and nothing after them is done."""
    bench = await ready(dut)
    defined = pairs(bench.config)
    undefined = [(o, u) for o in range(16) for u in range(8) if (o, u) not in defined]
    broken = [word(*pair) for pair in bench.rng.sample(undefined, 8)]
    broken += [0, (1 << 128) - 1, word(Opcode.END, Unit.CONTROL, reserved=1)]
    broken += [word(Opcode.FENCE, Unit.CONTROL, wait=1), word(Opcode.END, Unit.CONTROL, signal=1)]
    broken += [word(Opcode.LOAD, Unit.LOAD_W, reserved=1)]
    if units(bench.config) <= Unit.DEPTHWISE:
        broken += [word(Opcode.LOAD, Unit.LOAD_W, **{name: 1 << Unit.DEPTHWISE}) for name in ("wait", "signal")]
        broken += [word(Opcode.EXECUTE, Unit.DEPTHWISE), word(Opcode.CONFIG, Unit.DEPTHWISE)]
    for instruction in broken:
        program = random_program(bench.rng, bench.config, bench.rng.randrange(30))
        place = bench.rng.randrange(len(program))
        await bench.load([*program[:place], instruction, *program[place:]])
        await bench.run()
        bench.check_error("OPCODE", Unit.CONTROL, place)
        await bench.reset()
    bench.env.finish(require=("OPCODE", "run after reset"))


@cocotb.test()
async def code_region(dut):
    """No END in the region; a read error in an instruction that is reached; a base between two beats."""
    bench = await ready(dut)
    for _ in range(6):
        program = random_program(bench.rng, bench.config, bench.rng.randrange(60))
        count = bench.rng.randrange(len(program))
        await bench.load(program, size=16 * count + bench.rng.randrange(16))
        await bench.run()
        bench.check_error("REGION_RANGE", Unit.CONTROL, count)
        await bench.reset()

        program = random_program(bench.rng, bench.config, bench.rng.randrange(60))
        await bench.load(program)
        bench.memory.bad = bench.rng.randrange(16 * len(program))
        await bench.run()
        first_in_beat = bench.memory.bad // bench.config.axi_bytes * bench.config.axi_bytes // 16
        bench.check_error("AXI_READ", Unit.CONTROL, first_in_beat)
        await bench.reset()
    await bench.load(random_program(bench.rng, bench.config, 10), base=BASE + 4)
    await bench.run()
    bench.check_error("REGION_RANGE", Unit.CONTROL, 0)
    await bench.reset()
    bench.env.finish(require=("REGION_RANGE", "AXI_READ"))


@cocotb.test()
async def hung(dut):
    """A token that never comes: the watchdog names the unit, its instruction, and whom it waits for."""
    bench = await ready(dut)
    dut.watchdog.value = 300
    for opcode, unit in bench.rng.sample(work(bench.config), 5):
        program = [without_tokens(w) for w in random_program(bench.rng, bench.config, 12)]
        place = bench.rng.randrange(len(program))
        mask = bench.rng.randrange(1, 1 << units(bench.config))
        program.insert(place, word(opcode, unit, wait=mask))
        if unit == Unit.EXECUTE and mask & LOAD_W:
            mask = LOAD_W
        await bench.load(program)
        for mock in bench.units:
            mock.slow = min(mock.slow, 0.3)
        await bench.run()
        bench.check_error("WATCHDOG", unit, place, mask)
        await bench.reset()
    # Progress elsewhere holds it off; a memory that never answers does not.
    await bench.load(random_program(bench.rng, bench.config, 5))
    bench.memory.pause = 2
    dut.progress.value = 1
    await bench.pulse("start")
    for _ in range(1000):
        await bench.cycle()
    assert int(dut.status.value) == STATUS_BUSY
    dut.progress.value = 0
    for _ in range(310):
        await bench.cycle()
    bench.check_error("WATCHDOG", Unit.CONTROL, 0)
    await bench.reset()
    bench.env.finish(require=("WATCHDOG", "run after reset"))


@cocotb.test()
async def unit_errors(dut):
    """A unit's own fault, and too many tokens: the first is kept, and all stop."""
    bench = await ready(dut)
    for _ in range(5):
        program = random_program(bench.rng, bench.config, 40)
        at = bench.rng.choice([i for i, w in enumerate(program) if w >> 4 & 7 != Unit.CONTROL])
        await bench.load(program)
        for unit in bench.units:
            unit.fault_at = at
        await bench.run()
        bench.check_error("SRAM_RANGE", program[at] >> 4 & 7, at)
        await bench.reset()

        opcode, unit = bench.rng.choice(work(bench.config))
        most = 1 << bench.config.token_bits
        await bench.load([*[word(opcode, unit, signal=1 << bench.rng.randrange(units(bench.config)))] * most, END])
        await bench.run()
        bench.check_error("TOKEN_OVERFLOW", unit, most - 1)
        await bench.reset()
    bench.env.finish(require=("SRAM_RANGE", "TOKEN_OVERFLOW"))


@cocotb.test()
async def reset_while_running(dut):
    """A reset in the middle of a program, and starts that are ignored."""
    bench = await ready(dut)
    for _ in range(8):
        await bench.load(random_program(bench.rng, bench.config, 200))
        await bench.pulse("start")
        for _ in range(bench.rng.randrange(1, 200)):
            await bench.cycle()
        await bench.pulse("start")
        await bench.reset()
    bench.env.finish(require=("run after reset",))
