"""SFU: random programs of every mode with random gaps, tokens and refusals, against NumPy; throughput, halt, faults."""

from copy import deepcopy
from dataclasses import replace

import cocotb
from cocotb.triggers import RisingEdge

from systolith.config import Config
from systolith.isa import (
    ACC_BITS,
    ADDRESS_BITS,
    COUNT_BITS,
    PARAM_BITS,
    Instruction,
    Opcode,
    Reduction,
    SecondOperand,
    Unit,
    form,
    make,
)
from systolith.sim.testbench.support.control_programs import word as header_word
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.sfu_driver import Driver, run
from systolith.sim.testbench.support.sfu_model import (
    ACCUMULATORS,
    ACTIVATIONS,
    ADD,
    DEPTHWISE,
    MAXIMUM,
    MULTIPLY,
    NONE,
    SUM,
    Job,
    Memories,
    job_of,
    plan,
)
from systolith.sim.testbench.support.sfu_programs import NEUTRAL, Programs

NAME = "sfu"
LAST_ADDRESS, LARGEST_COUNT = (1 << ADDRESS_BITS) - 1, (1 << COUNT_BITS) - 1
GOOD = {"memory": ACCUMULATORS, "reduce": MAXIMUM, "second": NONE, "drain": 0,
        "source": 0, "operand": 0, "dst": 0, "rows": 1, "cols": 1,
        "param": 0}  # fmt: skip


def undefined(name: str) -> int:
    """A value of a field of SFU that means nothing."""
    field = form("SFU")[name]
    return next(value for value in range(field.high, -1, -1) if value not in set(field.values))


def component(config: Config):
    from systolith.hw.sfu.unit import SpecialFunctionUnit

    return SpecialFunctionUnit(config)


def setup(dut) -> tuple[Environment, Driver, Programs]:
    bench = Environment(dut)
    return bench, Driver(bench, Memories(bench.config, bench.numpy)), Programs(bench.config, bench.rng)


async def begin(driver: Driver, programs: Programs) -> None:
    """Reset, and a random table, which reset does not clear."""
    await driver.reset()
    driver.instruction_rate = driver.token_rate = driver.activation_rate = 1
    await run(driver, planned(driver, programs.whole_table()), after=1)


def planned(driver: Driver, program: list[Instruction], wait: bool = True) -> list[Job]:
    """The jobs of a program that starts with the memories as they are; without `wait`, they wait for no tokens."""
    if not wait:
        program = [replace(instruction, wait=0) for instruction in program]
    memories = deepcopy(driver.memories)
    jobs = list(plan(driver.bench.config, memories, program))
    driver.memories.table = memories.table
    return jobs


def sfu(**values: int) -> Instruction:
    return make("SFU", **{**GOOD, **values})


@cocotb.test()
async def random_programs(dut):
    bench, driver, programs = setup(dut)
    await begin(driver, programs)
    for _ in range(14):
        driver.instruction_rate, driver.token_rate = bench.rng.choice((0.1, 0.5, 1)), bench.rng.choice((0.05, 0.3, 1))
        driver.activation_rate = bench.rng.choice((0.2, 0.7, 1))
        jobs = planned(driver, programs.random(70))
        board = await run(driver, jobs, after=1)
        assert not board.starts and not board.steps and not board.params
        cover(bench, jobs)
        await bench.cycles(1)
        assert not int(dut.unit__busy.value)
    memories = [ACCUMULATORS, ACTIVATIONS, *([DEPTHWISE] if bench.config.dw_taps else [])]
    bench.finish(
        require=(
            "waited for a token", "refused", f"second {MULTIPLY}", "drain", "CONFIG.SFU.table", "lookup", "window",
            "padding",
            "half 0", "half 1", "CONFIG.SFU.add while values are in flight", "SFU while values are in flight",
            *(f"memory {memory} reduce {reduce} second {second}" for memory in memories for reduce in Reduction
              for second in (NONE, ADD)),
        )
    )  # fmt: skip


def cover(bench: Environment, jobs: list[Job]) -> None:
    lookup = 0
    for job in jobs:
        i, values = job.instruction, job.instruction.values
        lookup = values.get("lookup", lookup)
        if i.form.name != "SFU":
            bench.cover(i.form.name)
            continue
        bench.cover("drain", i["drain"])
        bench.cover("lookup", lookup)
        bench.cover(f"memory {i['memory']} reduce {i['reduce']} second {i['second']}")
        bench.cover(f"second {i['second']}")
        if i["memory"] == ACCUMULATORS:
            bench.cover(f"half {i['source'] // bench.config.acc_half}")
        bench.cover("window", len(job.steps) > 2 * len(job.params))
        bench.cover("padding", any(not any(v is not None for v in vars(step).values()) for step in job.steps))


@cocotb.test()
async def no_bubble(dut):
    """With instructions and tokens at hand every cycle is a step, or a CONFIG, or an access to activations refused."""
    bench, driver, programs = setup(dut)
    await begin(driver, programs)
    neutral = programs.neutral
    for rate in (1.0, 0.5):
        driver.activation_rate = rate
        depth, program = bench.config.act_depth, [neutral(group) for group in NEUTRAL]
        cols = min(bench.config.acc_half, depth // 4, 24)
        program += [neutral("input", height=2, width=cols, row_stride=1), neutral("operand", col_step=1)]
        program += [sfu(cols=cols, dst=0), sfu(cols=cols, dst=depth - cols, second=ADD, operand=depth // 2)] * 3
        program += [neutral("output", lookup=1, zero_point=3), neutral("add", multiplier_a=77, shift=6)]
        program += [sfu(cols=2, dst=n, second=ADD, operand=depth // 2) for n in range(0, 12, 2)]
        program += [sfu(cols=1, dst=n) for n in range(12)]
        program += [
            sfu(
                memory=ACTIVATIONS,
                source=depth // 2,
                operand=depth // 4,
                cols=7,
                dst=7 * n,
                second=list(SecondOperand)[n % 3],
            )
            for n in range(6)
        ]
        jobs = planned(driver, program, wait=False)
        board = await run(driver, jobs, after=1)
        first = next(n for n, job in enumerate(jobs) if job.steps)
        cycles = sum(len(job.steps) or 1 for job in jobs[first:]) + board.refused
        assert board.last_step - board.first_step + 1 == cycles, (rate, cycles)
        bench.cover("refused", board.refused)
    bench.finish(require=("refused",))


@cocotb.test()
async def throughput(dut):
    """Long runs, from instruction to retirement: N / lanes cycles a word and tap, and the latency once."""
    bench, driver, programs = setup(dut)
    groups, depth = bench.config.array // bench.config.sfu_lanes, bench.config.act_depth
    count = min(bench.config.acc_half, depth // 4, 64)
    latency = 40
    cases = {
        "accumulators": ([], sfu(cols=count), groups * count),
        "accumulators and operand": ([], sfu(cols=count, second=ADD, operand=depth // 2), groups * count),
        "window of activations": (
            [programs.neutral("window", kernel_y=3, kernel_x=2)],
            sfu(memory=ACTIVATIONS, reduce=SUM, source=depth // 2, cols=count),
            groups * count * 6,
        ),
        "product of activations": (
            [],
            sfu(memory=ACTIVATIONS, second=MULTIPLY, source=depth // 2, operand=depth - 1, cols=count),
            groups * count * 2,
        ),
    }
    for name, (extra, instruction, expected) in cases.items():
        await begin(driver, programs)
        program = [programs.neutral(group) for group in NEUTRAL] + extra
        board = await run(driver, planned(driver, [*program, instruction]), after=1)
        assert board.last_step - board.first_step + 1 == expected, name
        assert board.cycle <= expected + latency + len(program), (name, board.cycle, expected)
        bench.cover(name)
    bench.finish(require=cases)


@cocotb.test()
async def halt(dut):
    """After a halt nothing starts and nothing more is read; what is in the pipeline is still written."""
    bench, driver, programs = setup(dut)
    for _ in range(12):
        await begin(driver, programs)
        driver.activation_rate = bench.rng.choice((0.5, 1))
        jobs = planned(driver, programs.random(30))
        board = await run(driver, jobs, halt_at=bench.rng.randrange(15, 200), after=50)
        assert len(board.params) == sum(len(job.params) for job in jobs) - board.emitted(jobs)
        groups = bench.config.array // bench.config.sfu_lanes
        assert sum(len(job.writes) for job in jobs) - len(board.writes) == board.emitted(jobs) // groups
        bench.cover("halted with work left", bool(board.steps))
    bench.finish(require=("halted with work left",))


def bad_instructions(config: Config) -> dict[str, tuple[str, object]]:
    """By name: the fault, and an instruction (or its word, or CONFIG and an instruction) that makes it."""
    config_word = header_word(Opcode.CONFIG, Unit.SFU)
    acc_half, acc_depth, act_depth = config.acc_half, config.acc_depth, config.act_depth

    def last(**values: int) -> Instruction:
        return sfu(drain=1, **values)

    def after(group: str, values: dict[str, int], **fields: int) -> list[Instruction]:
        return [make(f"CONFIG.SFU.{group}", **{**NEUTRAL[group], **values}), last(**fields)]

    bad = {
        "opcode 0": ("OPCODE", header_word(0, Unit.SFU)),
        "opcode LOAD": ("OPCODE", header_word(Opcode.LOAD, Unit.SFU)),
        "opcode 15": ("OPCODE", 15 | Unit.SFU << 4),
        "group 6": ("OPCODE", config_word | 6 << 20),
        "group 15": ("OPCODE", config_word | 15 << 20),
        "memory 3": ("OPCODE", last(memory=undefined("memory"))),
        "second 3": ("OPCODE", last(second=undefined("second"), rows=0)),
        "product of accumulators": ("OPCODE", last(second=MULTIPLY)),
        "product of a sum": ("OPCODE", last(memory=ACTIVATIONS, second=MULTIPLY, reduce=SUM)),
        "no rows": ("OPERAND", last(rows=0)),
        "no columns": ("OPERAND", last(cols=0)),
        "no kernel rows": ("OPERAND", after("window", {"kernel_y": 0})),
        "no kernel columns": ("OPERAND", after("window", {"kernel_x": 0})),
        "no column stride": ("OPERAND", after("output", {"col_stride": 0})),
        "leaves half 0": ("OPERAND", last(source=acc_half - 1, cols=2)),
        "leaves half 1": ("OPERAND", last(source=acc_depth - 3, cols=4)),
        "before half 0": ("OPERAND", after("input", {"row_stride": LAST_ADDRESS}, rows=3, source=1)),
        "before half 1": ("OPERAND", after("input", {"row_stride": LAST_ADDRESS}, rows=3, source=acc_half + 1)),
        "last words": ("SRAM_RANGE", last(dst=act_depth - 2, cols=3)),
        "last row": ("SRAM_RANGE", last(dst=act_depth - 4, rows=3)),
        "column stride": ("SRAM_RANGE", after("output", {"col_stride": 255}, dst=act_depth - 300, cols=3)
                          if act_depth > 300 else last(dst=act_depth - 1, cols=2)),
        "far too large": ("OPERAND", last(rows=LARGEST_COUNT, cols=LARGEST_COUNT)),
        "operand after the end": ("SRAM_RANGE", last(second=ADD, operand=act_depth - 2, cols=4)),
        "operand beside activations": (
            "SRAM_RANGE", last(memory=ACTIVATIONS, second=MULTIPLY, operand=act_depth - 2, cols=4)),
    }  # fmt: skip
    if not config.dw_taps:
        bad["no depthwise unit"] = ("OPCODE", last(memory=DEPTHWISE))
    else:
        bad["leaves depthwise half"] = ("OPERAND", last(memory=DEPTHWISE, source=config.dw_half - 2, cols=4))
        if config.dw_depth < 1 << ACC_BITS:
            bad["depthwise accumulators"] = ("SRAM_RANGE", last(memory=DEPTHWISE, source=config.dw_depth))
    if act_depth < 1 << 18:
        bad["destination"] = ("SRAM_RANGE", last(dst=act_depth))
        bad["destination far out"] = ("SRAM_RANGE", last(dst=LAST_ADDRESS))
        bad["first operand word"] = ("SRAM_RANGE", last(second=ADD, operand=act_depth))
        bad["first activation"] = ("SRAM_RANGE", last(memory=ACTIVATIONS, source=act_depth))
        bad["activation after the end"] = ("SRAM_RANGE", last(memory=ACTIVATIONS, source=act_depth - 3, cols=4))
        bad["activation before 0"] = (
            "SRAM_RANGE",
            after("input", {"row_stride": LAST_ADDRESS - 1}, memory=ACTIVATIONS, rows=2),
        )
    if config.param_depth < 1 << PARAM_BITS:
        bad["parameters"] = ("SRAM_RANGE", last(param=config.param_depth))
    if acc_depth < 1 << ACC_BITS:
        bad["accumulators"] = ("SRAM_RANGE", last(source=acc_depth))
    return bad


@cocotb.test()
async def faults(dut):
    """Each stops the SFU with its code and index; instructions before it end well, those after it do nothing."""
    bench, driver, programs = setup(dut)
    for name, (code, bad) in bad_instructions(bench.config).items():
        await begin(driver, programs)
        driver.instruction_rate, driver.token_rate = bench.rng.choice((0.5, 1)), bench.rng.choice((0.3, 1))
        driver.activation_rate = bench.rng.choice((0.5, 1))
        program = programs.random(bench.rng.randint(6, 12))
        program += [programs.neutral(group) for group in NEUTRAL if group != "output"]
        program += [programs.neutral("operand", col_step=1), programs.neutral("output", row_stride=3)]
        if isinstance(bad, int):
            jobs = [*planned(driver, program), Job(sfu(), bad, fault=code, starts=False)]
        else:
            jobs = planned(driver, [*program, *(bad if isinstance(bad, list) else [bad])])
        assert jobs[-1].fault == code, name
        board = await run(driver, jobs, after=50)
        assert not board.starts and not board.steps, name
        await nothing_more(driver, len(jobs))
        bench.cover(name)
    bench.finish(require=bad_instructions(bench.config))


async def nothing_more(driver: Driver, index: int) -> None:
    """After a fault, a good instruction offered for some cycles is not run."""
    dut = driver.dut
    driver.instruction_rate = 1
    driver.offer(job_of(sfu()), index)
    for _ in range(50):
        await RisingEdge(dut.clk)
        assert not any(int(h.value) for h in (dut.accumulators__valid, dut.write__valid, dut.unit__retired))
