"""SFU: random programs with random gaps and tokens, against NumPy; every read, write, token and retirement in order."""

from collections import Counter, deque
from dataclasses import replace

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from systolith.config import Config
from systolith.isa import Opcode, Unit, make
from systolith.sim.testbench.environment import Environment
from systolith.sim.testbench.sfu_model import FAULTS, Job, Memories, job_of, plan, random_instructions, word_of

NAME = "sfu"
UNIT_BITS, INDEX_BITS = 6, 24


def component(config: Config):
    from systolith.hw.sfu import SpecialFunctionUnit

    return SpecialFunctionUnit(config)


class Driver:
    """Everything around the SFU: its queue, the token counters, and two memories that answer after two cycles."""

    def __init__(self, bench: Environment, memories: Memories):
        self.bench, self.dut, self.memories = bench, bench.dut, memories
        self.instruction_rate = self.token_rate = 1.0
        self.tokens: Counter[int] = Counter()
        self.answers = deque([(None, None)] * 2)

    async def reset(self) -> None:
        self.dut.unit__halt.value = 0
        self.dut.unit__instruction__valid.value = 0
        for port in ("accumulators", "parameters", "write"):
            getattr(self.dut, f"{port}__ready").value = 1
        await self.bench.reset()

    def offer(self, job: Job | None, index: int) -> bool:
        """Put the next instruction at the queue's output, or leave it empty for a cycle."""
        offered = job is not None and self.bench.rng.random() < self.instruction_rate
        self.dut.unit__instruction__valid.value = offered
        if offered:
            self.dut.unit__instruction__payload.value = job.word | index << 128
        return offered

    def answer(self) -> None:
        """Data of the requests of two cycles ago; noise where there was none."""
        row, param = self.answers.popleft()
        n, rng = self.bench.config.array, self.bench.rng
        self.dut.accumulators__data.value = rng.getrandbits(32 * n) if row is None else word_of(self.memories.acc[row])
        self.dut.parameters__data.value = (
            rng.getrandbits(64 * n) if param is None else self.memories.parameter_word(param)
        )

    def take_requests(self) -> tuple[int, int] | None:
        """The requests of this cycle; both memories are always asked together."""
        asked = bool(int(self.dut.accumulators__valid.value))
        assert asked == bool(int(self.dut.parameters__valid.value))
        request = (
            (int(self.dut.accumulators__address.value), int(self.dut.parameters__address.value)) if asked else None
        )
        self.answers.append(request or (None, None))
        return request

    def grant(self) -> tuple[int, bool]:
        """In the middle of a cycle: new tokens come, and `ready` answers `need`."""
        need = int(self.dut.unit__tokens__need.value)
        for unit in range(UNIT_BITS):
            if not self.tokens[unit] and self.bench.rng.random() < self.token_rate:
                self.tokens[unit] = 1
        ready = all(self.tokens[unit] for unit in range(UNIT_BITS) if need >> unit & 1)
        self.dut.unit__tokens__ready.value = ready
        return need, ready


class Scoreboard:
    """What must still happen, in order."""

    def __init__(self, bench: Environment, jobs: list[Job]):
        self.bench, self.dut, self.jobs = bench, bench.dut, jobs
        self.starts = deque(n for n, job in enumerate(jobs) if job.starts)
        self.reads = deque((n, *read) for n, job in enumerate(jobs) for read in job.reads)
        self.writes = deque((n, *write) for n, job in enumerate(jobs) for write in job.writes)
        self.retires = deque(n for n, job in enumerate(jobs) if job.fault is None)
        self.cycle = self.last_read = self.last_write = 0
        self.first_read: int | None = None
        self.started = -1
        self.faulted = False

    def check(self, need: int, ready: bool, request: tuple[int, int] | None) -> None:
        """At the end of a cycle."""
        self.cycle += 1
        self._check_read(request)
        self._check_start(need, ready)
        self._check_retire()
        self._check_write()
        self._check_fault()
        if not self.faulted and (self.retires and self.started >= self.retires[0]):
            assert int(self.dut.unit__busy.value)

    def _check_start(self, need: int, ready: bool) -> None:
        waits = int(self.dut.counts.value) >> 1
        assert not waits or (need and not ready)
        self.bench.cover("waited for a token", waits)
        if int(self.dut.unit__tokens__take.value):
            assert ready
            self.started = self.starts.popleft()
            job = self.jobs[self.started]
            assert need == job.instruction.wait, f"instruction {self.started} waited for {need:06b}"
            assert int(self.dut.unit__tokens__index.value) == self.started
            in_flight = bool(self.writes) and self.writes[0][0] < self.started
            self.bench.cover("CONFIG while values are in flight", in_flight and job.instruction.form.name != "SFU")

    def _check_read(self, request: tuple[int, int] | None) -> None:
        assert bool(int(self.dut.counts.value) & 1) == (request is not None)
        if request is None:
            return
        n, *expected = self.reads.popleft()
        assert list(request) == expected, f"instruction {n}: read row and parameter {request}, not {expected}"
        assert n <= self.started, f"instruction {n} read before it took its tokens"
        self.first_read = self.first_read or self.cycle
        self.last_read = self.cycle

    def _check_write(self) -> None:
        if not int(self.dut.write__valid.value):
            return
        n, address, value = self.writes.popleft()
        found = int(self.dut.write__address.value)
        assert found == address, f"instruction {n}: wrote word {found}, not {address}"
        found = int(self.dut.write__data.value)
        assert found == value, f"instruction {n}: wrote {found:x} to word {address}, not {value:x}"
        assert int(self.dut.write__mask.value) == (1 << self.bench.config.array) - 1
        self.last_write = self.cycle

    def _check_retire(self) -> None:
        give = int(self.dut.unit__give.value)
        if not int(self.dut.unit__retired.value):
            assert give == 0
            return
        n = self.retires.popleft()
        assert int(self.dut.unit__retired_index.value) == n
        assert give == self.jobs[n].instruction.signal, f"instruction {n} gave {give:06b}"
        assert not self.writes or self.writes[0][0] > n, f"instruction {n} retired before its last write"
        assert not self.jobs[n].writes or self.cycle == self.last_write + 1
        assert int(self.dut.unit__busy.value)

    def _check_fault(self) -> None:
        fault = int(self.dut.unit__fault.value)
        code, index = fault & 0xFF, fault >> 8
        if code:
            last = self.jobs[-1]
            assert last.fault, f"fault {code} of instruction {index}"
            assert (code, index) == (FAULTS[last.fault], len(self.jobs) - 1)
            self.faulted = True

    @property
    def finished(self) -> bool:
        return not self.retires and not self.writes and (self.faulted or not self.jobs[-1].fault)


async def run(driver: Driver, jobs: list[Job], halt_at: int | None = None, after: int = 0) -> Scoreboard:
    """The jobs, until all has happened and `after` more cycles; or until well after a halt."""
    dut, board = driver.dut, Scoreboard(driver.bench, jobs)
    position, limit, rest = 0, 200 + 500 * len(jobs) + 100 * sum(len(job.reads) for job in jobs), after
    while rest:
        offered = driver.offer(jobs[position] if position < len(jobs) else None, position)
        driver.answer()
        halted = halt_at is not None and board.cycle >= halt_at
        dut.unit__halt.value = halted
        await FallingEdge(dut.clk)
        need, ready = driver.grant()
        await RisingEdge(dut.clk)
        position += offered and int(dut.unit__instruction__ready.value)
        if int(dut.unit__tokens__take.value):
            driver.tokens.subtract({unit: need >> unit & 1 for unit in range(UNIT_BITS)})
        request = driver.take_requests()
        board.check(need, ready, request)
        assert not halted or (request is None and not int(dut.unit__tokens__take.value)), "started something after halt"
        if board.finished or halted:
            rest -= 1
        assert board.cycle < limit, f"stuck: next to retire is {board.retires[0] if board.retires else None}"
    return board


def setup(dut) -> tuple[Environment, Driver, Memories]:
    bench = Environment(dut)
    memories = Memories(bench.config, bench.numpy)
    return bench, Driver(bench, memories), memories


@cocotb.test()
async def random_programs(dut):
    bench, driver, memories = setup(dut)
    await driver.reset()
    for _ in range(12):
        driver.instruction_rate, driver.token_rate = bench.rng.choice((0.1, 0.5, 1)), bench.rng.choice((0.05, 0.3, 1))
        program = random_instructions(bench.config, bench.rng, 40)
        board = await run(driver, list(plan(bench.config, memories, program)), after=1)
        assert not board.starts and not board.reads
        for instruction in program:
            bench.cover(f"half {instruction.values.get('acc', 0) // bench.config.acc_half}")
            bench.cover("clamped", instruction.values.get("clamp_max", 127) < 127)
        await bench.cycles(1)
        assert not int(dut.unit__busy.value)
    bench.finish(require=("waited for a token", "CONFIG while values are in flight", "half 0", "half 1", "clamped"))


@cocotb.test()
async def no_bubble(dut):
    """With instructions and tokens at hand, every cycle is a step: one a group of channels, and one a CONFIG."""
    bench, driver, memories = setup(dut)
    await driver.reset()
    jobs = list(plan(bench.config, memories, random_instructions(bench.config, bench.rng, 60)))
    jobs = [replace_masks(job, wait=0) for job in jobs]
    while not jobs[-1].reads:
        jobs.pop()
    board = await run(driver, jobs, after=1)
    first = next(n for n, job in enumerate(jobs) if job.reads)
    steps = sum(len(job.reads) or 1 for job in jobs[first:])
    assert board.last_read - board.first_read + 1 == steps
    bench.cover("steps", steps)
    bench.finish(require=("steps",))


def replace_masks(job: Job, **masks: int) -> Job:
    instruction = replace(job.instruction, **masks)
    return replace(job, instruction=instruction, word=job_of(instruction).word)


@cocotb.test()
async def halt(dut):
    """After a halt nothing starts and nothing more is read; what is in the pipeline is still written."""
    bench, driver, memories = setup(dut)
    for _ in range(8):
        await driver.reset()
        jobs = list(plan(bench.config, memories, random_instructions(bench.config, bench.rng, 30)))
        board = await run(driver, jobs, halt_at=bench.rng.randrange(5, 120), after=40)
        unread = sum(len(job.reads) for job in jobs) - len(board.reads)
        groups = bench.config.array // bench.config.sfu_lanes
        assert sum(len(job.writes) for job in jobs) - len(board.writes) == unread // groups
        bench.cover("halted with work left", bool(board.reads))
    bench.finish(require=("halted with work left",))


def bad_instructions(config: Config) -> dict[str, tuple[str, object]]:
    """By name: the fault, and an instruction (or its word) that makes it, after a CONFIG with row_stride 3."""
    good = {"mode": 0, "acc": 0, "dst": 0, "rows": 1, "cols": 1, "param": 0}
    config_word = Opcode.CONFIG | Unit.SFU << 4

    def sfu(**values: int):
        return make("SFU", **{**good, **values})

    bad = {
        "opcode 0": ("OPCODE", Unit.SFU << 4),
        "opcode LOAD": ("OPCODE", Opcode.LOAD | Unit.SFU << 4),
        "opcode 15": ("OPCODE", 15 | Unit.SFU << 4),
        "group 1": ("OPCODE", config_word | 1 << 20),
        "group 15": ("OPCODE", config_word | 15 << 20),
        "mode 1": ("OPCODE", sfu(mode=1)),
        "mode 15": ("OPCODE", sfu(mode=15, rows=0)),
        "no rows": ("OPERAND", sfu(rows=0)),
        "no columns": ("OPERAND", sfu(cols=0)),
        "leaves half 0": ("OPERAND", sfu(acc=config.acc_half - 1, cols=2)),
        "leaves half 1": ("OPERAND", sfu(acc=config.acc_depth - 3, rows=4)),
        "far too large": ("OPERAND", sfu(rows=4095, cols=4095)),
        "last words": ("SRAM_RANGE", sfu(dst=config.act_depth - 2, cols=3)),
        "last row": ("SRAM_RANGE", sfu(dst=config.act_depth - 4, rows=3)),
    }
    if config.act_depth < 1 << 18:
        bad["destination"] = ("SRAM_RANGE", sfu(dst=config.act_depth))
        bad["destination far out"] = ("SRAM_RANGE", sfu(dst=(1 << 18) - 1))
    if config.param_depth < 1 << 12:
        bad["parameters"] = ("SRAM_RANGE", sfu(param=config.param_depth))
    if config.acc_depth < 1 << 14:
        bad["accumulators"] = ("SRAM_RANGE", sfu(acc=config.acc_depth))
    return bad


@cocotb.test()
async def faults(dut):
    """Each stops the SFU with its code and index; instructions before it end well, those after it do nothing."""
    bench, driver, memories = setup(dut)
    for name, (code, bad) in bad_instructions(bench.config).items():
        await driver.reset()
        driver.instruction_rate, driver.token_rate = bench.rng.choice((0.5, 1)), bench.rng.choice((0.3, 1))
        program = random_instructions(bench.config, bench.rng, bench.rng.randint(1, 6))
        program.append(make("CONFIG.SFU.output", zero_point=1, clamp_min=-128, clamp_max=127, row_stride=3))
        following = make("SFU", mode=0, acc=0, dst=0, rows=1, cols=1, param=0)
        if isinstance(bad, int):
            jobs = [*plan(bench.config, memories, program), Job(following, bad, fault=code, starts=False)]
        else:
            jobs = list(plan(bench.config, memories, [*program, bad]))
        assert jobs[-1].fault == code, name
        board = await run(driver, jobs, after=30)
        assert not board.starts and not board.reads, name
        await nothing_more(driver, len(jobs))
        bench.cover(name)
    bench.finish(require=bad_instructions(bench.config))


async def nothing_more(driver: Driver, index: int) -> None:
    """After a fault, a good instruction offered for some cycles is not run."""
    dut = driver.dut
    good = make("SFU", mode=0, acc=0, dst=0, rows=1, cols=1, param=0)
    driver.instruction_rate = 1
    driver.offer(job_of(good), index)
    for _ in range(30):
        await RisingEdge(dut.clk)
        assert not any(int(h.value) for h in (dut.accumulators__valid, dut.write__valid, dut.unit__retired))
