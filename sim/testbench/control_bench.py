"""Fetch, dispatch, queues, tokens and supervisor: random programs, a stalling memory, units that only take time."""

import random
from collections import Counter, deque

import cocotb
from cocotb.triggers import RisingEdge

from systolith import isa
from systolith.config import Config
from systolith.isa import Opcode, Region, Unit
from systolith.registers import STATUS_BUSY, STATUS_DONE, STATUS_ERROR
from systolith.sim.testbench.environment import Environment

NAME = "control"
UNITS = ("load_weights", "load_activations", "execute", "sfu", "store", "depthwise")
CODES = {name: number for number, (name, _) in isa.ERRORS.items()}
LOAD_W = 1 << Unit.LOAD_W
BASE = 0x1_0000


def component(config: Config):
    from systolith.hw.control import Control

    return Control(config)


def units(config: Config) -> int:
    """How many units there are."""
    return len(UNITS) if config.dw_taps else len(UNITS) - 1


def pairs(config: Config) -> list[tuple[int, int]]:
    """(opcode, unit) of all instructions."""
    found = {*isa.FORMATS, *((Opcode.CONFIG, unit) for unit, _ in isa.CONFIG_FORMATS)}
    return sorted(pair for pair in found if pair[1] < units(config) or pair[1] == Unit.CONTROL)


def work(config: Config) -> list[tuple[int, int]]:
    """Those that units do."""
    return [pair for pair in pairs(config) if pair[1] != Unit.CONTROL]


def word(opcode: int, unit: int, wait: int = 0, signal: int = 0, reserved: int = 0, payload: int = 0) -> int:
    return opcode | unit << 4 | wait << 7 | signal << 13 | reserved << 19 | payload << 20


END, FENCE = word(Opcode.END, Unit.CONTROL), word(Opcode.FENCE, Unit.CONTROL)


def random_program(rng: random.Random, config: Config, length: int) -> list[int]:
    """Instructions whose tokens neither run out nor overflow, whatever the units' speed; END last."""
    most = (1 << config.token_bits) - 1
    program, given, waiting = [], Counter(), Counter()
    choices, count = work(config), units(config)
    while len(program) < length:
        if rng.random() < 0.03:
            program.append(FENCE)
            given.clear()
            given.update(waiting)
            continue
        opcode, unit = rng.choice(choices)
        takes = [giver for giver in range(count) if waiting[giver, unit] and rng.random() < 0.5]
        gives = [taker for taker in range(count) if given[unit, taker] < most and rng.random() < 0.25]
        waiting.subtract((giver, unit) for giver in takes)
        waiting.update((unit, taker) for taker in gives)
        given.update((unit, taker) for taker in gives)
        masks = (sum(1 << number for number in numbers) for numbers in (takes, gives))
        program.append(word(opcode, unit, *masks, payload=rng.getrandbits(108)))
    # What was given and not taken is taken, so that the next program starts without tokens.
    while +waiting:
        for taker in range(count):
            takes = [giver for giver in range(count) if waiting[giver, taker]]
            waiting.subtract((giver, taker) for giver in takes)
            opcode = next(opcode for opcode, unit in choices if unit == taker)
            program.append(word(opcode, taker, sum(1 << giver for giver in takes)))
    return [*program, END]


class Memory:
    """Answers the read bus: requests with random pauses, beats in order after a random time."""

    def __init__(self, bench: Environment):
        self.bench, self.rng = bench, bench.rng
        self.bytes, self.base, self.limit, self.bad = b"", BASE, 0, -1
        self.beats: deque = deque()
        self.pause = 0.3

    @property
    def in_flight(self) -> bool:
        return bool(self.beats)

    def step(self) -> None:
        dut, config = self.bench.dut, self.bench.config
        if int(dut.bus__request__valid.value) and int(dut.bus__request__ready.value):
            payload = int(dut.bus__request__payload.value)
            address, beats = payload & (1 << config.axi_addr_bits) - 1, (payload >> config.axi_addr_bits) + 1
            size = beats * config.axi_bytes
            assert address % config.axi_bytes == 0 and address // 4096 == (address + size - 1) // 4096
            assert beats <= config.axi_burst
            offset = address - self.base
            assert offset >= 0 and offset + size < self.limit + config.axi_bytes, "outside of the region"
            self.beats.extend(range(offset, offset + size, config.axi_bytes))
        dut.bus__request__ready.value = not self.halted and self.rng.random() >= self.pause
        valid = bool(self.beats) and self.rng.random() >= self.pause
        dut.bus__beat_valid.value = valid
        if valid:
            offset = self.beats.popleft()
            data = self.bytes[offset : offset + config.axi_bytes].ljust(config.axi_bytes, b"\xa5")
            dut.bus__beat_data.value = int.from_bytes(data, "little")
            dut.bus__beat_error.value = offset <= self.bad < offset + config.axi_bytes
        else:
            dut.bus__beat_data.value = self.rng.getrandbits(config.axi_data_bits)
        dut.quiet.value = self.halted and not self.beats and self.rng.random() < 0.5

    @property
    def halted(self) -> bool:
        return bool(int(self.bench.dut.halt.value))


class MockUnit:
    """Takes an instruction, its tokens, some time; then retires it. EXECUTE takes the token of LOAD_W first."""

    def __init__(self, bench: Environment, number: int, log: "Log"):
        self.bench, self.number, self.log = bench, number, log
        self.port, self.slow, self.fault_at = UNITS[number], 0.0, None
        self.clear()

    def clear(self) -> None:
        self.state, self.needs, self.current = "idle", [], None
        for member in ("instruction__ready", "tokens__need", "tokens__take", "give", "retired", "busy", "fault"):
            self.signal(member).value = 0
        if self.number == Unit.EXECUTE:
            self.bench.dut.execute_weights__need.value = 0
            self.bench.dut.execute_weights__take.value = 0

    def signal(self, member: str):
        return getattr(self.bench.dut, f"{self.port}__{member}")

    def token_signal(self, member: str):
        early = self.number == Unit.EXECUTE and len(self.needs) == 2
        return getattr(self.bench.dut, f"execute_weights__{member}") if early else self.signal(f"tokens__{member}")

    def step(self) -> None:
        getattr(self, f"_{self.state}")()

    def _idle(self) -> None:
        self.signal("retired").value = 0
        self.signal("give").value = 0
        if int(self.signal("instruction__valid").value) and int(self.signal("instruction__ready").value):
            payload = int(self.signal("instruction__payload").value)
            instruction, self.index = payload & (1 << 128) - 1, payload >> 128
            self.log.taken(self.number, self.index, instruction)
            wait = instruction >> 7 & 63
            self.give = instruction >> 13 & 63
            self.needs = [wait & LOAD_W, wait & ~LOAD_W] if self.number == Unit.EXECUTE else [wait]
            self.state = "need"
            self.signal("instruction__ready").value = 0
            self.signal("busy").value = 1
        else:
            self.signal("instruction__ready").value = self.bench.rng.random() >= self.slow

    def _need(self) -> None:
        self.token_signal("need").value = self.needs[0]
        self.token_signal("index").value = self.index
        self.state = "wait"

    def _wait(self) -> None:
        if int(self.token_signal("ready").value):
            self.token_signal("take").value = 1
            self.state = "took"

    def _took(self) -> None:
        self.token_signal("take").value = 0
        self.token_signal("need").value = 0
        self.needs.pop(0)
        self.state = "need" if self.needs else "work"

    def _work(self) -> None:
        if self.fault_at == self.index:
            self.signal("fault").value = CODES["SRAM_RANGE"] | self.index << 8
            self.state = "dead"
        elif self.bench.rng.random() >= self.slow:
            self.signal("retired").value = 1
            self.signal("retired_index").value = self.index
            self.signal("give").value = self.give
            self.signal("busy").value = 0
            self.log.retired.append(self.index)
            self.state = "idle"

    def _dead(self) -> None:
        self.signal("fault").value = 0


class Log:
    """What the units took and retired, checked against the program as it comes."""

    def __init__(self):
        self.begin([])

    def begin(self, program: list[int]) -> None:
        self.program, self.retired = program, []
        self.left = [[i for i, w in enumerate(program) if w >> 4 & 7 == unit] for unit in range(len(UNITS))]
        fences = [i for i, w in enumerate(program) if w & 127 == FENCE & 127]
        self.fence_before = {i: max((f for f in fences if f < i), default=-1) for i in range(len(program))}

    def taken(self, unit: int, index: int, instruction: int) -> None:
        assert index == self.left[unit].pop(0) and instruction == self.program[index]
        done = set(self.retired)
        fence = self.fence_before[index]
        assert all(i in done or self.program[i] & 127 == FENCE & 127 for i in range(fence)), f"{index} passed {fence}"


class Bench:
    """Control with memory and units around it."""

    def __init__(self, dut):
        self.env, self.dut, self.log = Environment(dut), dut, Log()
        self.rng, self.config = self.env.rng, self.env.config
        self.memory = Memory(self.env)
        self.units = [MockUnit(self.env, number, self.log) for number in range(units(self.config))]
        for name in ("start", "reset", "watchdog", "quiet", "progress", "bus__request__ready", "bus__beat_valid"):
            getattr(dut, name).value = 0

    async def cycle(self) -> None:
        await RisingEdge(self.dut.clk)
        self.memory.step()
        for unit in self.units:
            if int(self.dut.core_reset.value):
                unit.clear()
            elif not int(self.dut.halt.value):
                unit.step()

    async def pulse(self, name: str) -> None:
        getattr(self.dut, name).value = 1
        await self.cycle()
        getattr(self.dut, name).value = 0

    async def load(self, program: list[int], base: int = BASE, size: int | None = None) -> None:
        memory, config = self.memory, self.config
        memory.base, memory.limit = base, 16 * len(program) if size is None else size
        memory.bytes, memory.bad = b"".join(w.to_bytes(16, "little") for w in program), -1
        entry = base | memory.limit << config.axi_addr_bits
        table = self.rng.getrandbits(8 * (config.axi_addr_bits + 33))
        shift = Region.CODE * (config.axi_addr_bits + 33)
        mask = (1 << config.axi_addr_bits + 33) - 1 << shift
        self.dut.regions__table.value = table & ~mask | entry << shift
        self.log.begin(program)
        memory.pause = self.rng.choice((0, 0.3, 0.8))
        for unit in self.units:
            unit.slow, unit.fault_at = self.rng.choice((0, 0.3, 0.9)), None

    async def run(self, most: int = 100_000) -> None:
        """Start, and wait until it ends."""
        notified = 0
        await self.pulse("start")
        await self.cycle()
        for _ in range(most):
            notified += int(self.dut.notify.value)
            status = int(self.dut.status.value)
            if status & (STATUS_DONE | STATUS_ERROR):
                assert notified == 1
                return
            await self.cycle()
        raise AssertionError(f"not finished after {most} cycles")

    def check_done(self) -> None:
        assert int(self.dut.status.value) == STATUS_DONE, f"{int(self.dut.report.value):#x}"
        done = [i for i, w in enumerate(self.log.program) if w >> 4 & 7 != Unit.CONTROL]
        assert sorted(self.log.retired) == done and not self.memory.in_flight

    def check_error(self, code: str, unit: int, index: int, detail: int = 0) -> None:
        assert int(self.dut.status.value) & (STATUS_DONE | STATUS_ERROR) == STATUS_ERROR
        value = int(self.dut.report.value)
        found = (value & 255, value >> 8 & 255, value >> 32, value >> 16 & 0xFFFF)
        assert found == (CODES[code], unit, index, detail), f"{found}, not {(code, unit, index, detail)}"
        assert all(i < index or unit != Unit.CONTROL for i in self.log.retired)
        self.env.cover(code)

    async def reset(self) -> None:
        """Soft reset, while which status is busy; then a good program runs."""
        await self.pulse("reset")
        await self.cycle()
        assert int(self.dut.status.value) == STATUS_BUSY
        while int(self.dut.status.value):
            await self.cycle()
        assert not int(self.dut.halt.value) and not int(self.dut.report.value)
        await self.load(random_program(self.rng, self.config, 20))
        await self.run()
        self.check_done()
        self.env.cover("run after reset")


async def ready(dut) -> Bench:
    bench = Bench(dut)
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
    broken += [0, (1 << 128) - 1, END | 1 << 19, FENCE | 1 << 7, END | 1 << 13]
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
        program = [w & ~(0xFFF << 7) for w in random_program(bench.rng, bench.config, 12)]
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
