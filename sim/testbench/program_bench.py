"""The whole accelerator under stalls: compiled networks against the golden model, random instructions against the
instruction simulator, and faults with recovery.

Regions lie at random byte addresses. `given_program` is no test of its own: it runs what the `cocotb` backend asks for.
"""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import cocotb
import numpy as np

from systolith.compiler.pipeline import compile_model
from systolith.config import Config
from systolith.isa import ADDRESS_BITS, INSTRUCTION_BYTES, Instruction, Opcode, Region, Unit, decode_program, encode
from systolith.program import Program
from systolith.sim import run
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import Image
from systolith.sim.isa import simulator
from systolith.sim.stimulus.layers import random_layer
from systolith.sim.stimulus.model import Limits
from systolith.sim.stimulus.program import random_program
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.host import Host

NAME = "program"
SMALL = Limits(channels=20, size=7, kernel=3, batch=2, rows=9, features=24, layers=3, macs=15_000)
STALLS = (0.0, 0.1, 0.5)
PROGRAMS = 4


def component(config: Config):
    """The accelerator itself."""
    from systolith.hw.top import Accelerator

    return Accelerator(config)


async def start(dut) -> tuple[Environment, Host]:
    bench = Environment(dut, "aclk", "aresetn", 0)
    host = Host(bench)
    await bench.reset(8)
    return bench, host


def compiled(bench: Environment, kind: str | None = None) -> tuple[Program, dict]:
    """A random network for the configuration, and its inputs."""
    model, inputs = random_layer(bench.numpy, kind, SMALL)
    return compile_model(model, bench.config), inputs


async def run_and_compare(bench: Environment, host: Host, program: Program, inputs: dict) -> None:
    """Run, compare every element with the golden model, and check that nothing else was written."""
    image = run.prepare(program, inputs, bench.rng.randrange(1 << 30))
    before = image.copy()
    await host.run(image, program.code)
    outputs = run.collect(program, image, before)
    expected, _ = run.run(program, inputs, bench.config, "golden")
    for name, values in expected.items():
        assert np.array_equal(outputs[name], values), f"output {name} differs with seed {bench.seed}"
    bench.cover("elements", sum(values.size for values in expected.values()))


@cocotb.test()
async def random_programs(dut):
    """Random networks, one after another without a reset between, each under its own rate of stalls."""
    bench, host = await start(dut)
    for _ in range(PROGRAMS):
        program, inputs = compiled(bench)
        stall = bench.rng.choice(STALLS)
        host.stall(stall)
        await run_and_compare(bench, host, program, inputs)
        bench.cover("programs")
        bench.cover("stalled", stall > 0)
        bench.cover("layers", len(program.meta["layers"]))
    bench.finish(require=("programs", "elements", "layers"))


@cocotb.test()
async def random_instructions(dut):
    """Random programs of every unit leave the same bytes in memory as the instruction simulator."""
    bench, host = await start(dut)
    for _ in range(PROGRAMS):
        random = random_program(bench.numpy, bench.config)
        seed = bench.rng.randrange(1 << 30)
        expected, found = random.image(seed), random.image(seed)
        simulator.simulate(random.program.code, bench.config, expected)
        host.stall(bench.rng.choice(STALLS))
        await host.run(found, random.program.code)
        assert np.array_equal(found.data, expected.data), f"memory differs with seed {bench.seed}"
        for instruction in random.listing:
            bench.cover(instruction.form.name)
    units = ("EXECUTE", "SFU", "STORE", "LOAD.A", "LOAD.W", *(("DEPTHWISE",) if bench.config.dw_taps else ()))
    bench.finish(require=units)


@cocotb.test()
async def faults_and_recovery(dut):
    """Each kind of fault a program or memory can cause, with its code, unit and instruction; then a good run."""
    bench, host = await start(dut)
    program, inputs = for_faults(bench)
    for name, expected, image, code in scenarios(bench, program, inputs):
        host.window.error = error_range(name, image)
        host.stall(bench.rng.choice(STALLS))
        try:
            await host.run(image, code, watchdog=5000)
        except HardwareFault as fault:
            assert (fault.code, fault.unit) == expected[:2], f"{name}: {fault}"
            assert expected[2] in (None, fault.index), f"{name}: {fault}"
        else:
            raise AssertionError(f"{name}: must stop the accelerator")
        host.window.error = (0, 0)
        await host.reset()
        await run_and_compare(bench, host, program, inputs)
        bench.cover(name)
    bench.finish(require=("opcode", "operand", "sram_range", "region_range", "axi_read", "axi_write", "watchdog"))


def for_faults(bench: Environment) -> tuple[Program, dict]:
    """A random convolution that runs on the array and reads the last byte of its input, and its inputs. One in groups
    may have a unit of its own; one with strides may leave that byte."""
    while True:
        program, inputs = compiled(bench, "qlinearconv")
        image = shorter(run.prepare(program, inputs), Region.INPUT)
        try:
            simulator.simulate(program.code, bench.config, image)
        except HardwareFault:
            if found(program, Unit.EXECUTE, Opcode.EXECUTE):
                return program, inputs


def shorter(image: Image, region: Region) -> Image:
    """The image with the last byte of a region outside of it."""
    return Image(image.data, image.origin, image.bases, {**image.limits, region: image.limits[region] - 1})


def scenarios(bench: Environment, program: Program, inputs: dict):
    """(name, (code, unit, instruction or None), image, code) for each fault."""

    def with_code(name: str, fault: str, unit: Unit, index: int, instruction: bytes):
        start = index * INSTRUCTION_BYTES
        code = program.code[:start] + instruction + program.code[start + INSTRUCTION_BYTES :]
        image = run.prepare(replace(program, code=code), inputs, bench.rng.randrange(1 << 30))
        return name, (fault, unit, index), image, code

    def changed(name: str, fault: str, unit: Unit, opcode: Opcode, wait: int | None = None, at: int = 0, **values: int):
        index, old = found(program, unit, opcode)[at]
        new = replace(old, values={**old.values, **values}, wait=old.wait if wait is None else wait)
        return with_code(name, fault, unit, index, encode(new))

    def as_is(name: str, fault: str, unit: Unit, limit: Region | None = None):
        image = run.prepare(program, inputs, bench.rng.randrange(1 << 30))
        return name, (fault, unit, None), image if limit is None else shorter(image, limit), program.code

    yield with_code("opcode", "OPCODE", Unit.CONTROL, 3, bytes(INSTRUCTION_BYTES))
    yield changed("operand", "OPERAND", Unit.LOAD_W, Opcode.LOAD, words=0)
    yield changed("operand", "OPERAND", Unit.EXECUTE, Opcode.EXECUTE, rows=0)
    yield changed("operand", "OPERAND", Unit.SFU, Opcode.SFU, cols=0)
    yield changed("sram_range", "SRAM_RANGE", Unit.LOAD_W, Opcode.LOAD, sram=(1 << ADDRESS_BITS) - 1)
    yield changed("sram_range", "SRAM_RANGE", Unit.LOAD_A, Opcode.LOAD, sram=(1 << ADDRESS_BITS) - 1)
    yield changed("sram_range", "SRAM_RANGE", Unit.STORE, Opcode.STORE, sram=(1 << ADDRESS_BITS) - 1)
    # The last one: no load waits for it, of which the report would speak first.
    yield changed("watchdog", "WATCHDOG", Unit.EXECUTE, Opcode.EXECUTE, wait=1 << Unit.STORE, at=-1)
    yield as_is("region_range", "REGION_RANGE", Unit.STORE, Region.OUTPUT)
    yield as_is("region_range", "REGION_RANGE", Unit.LOAD_A, Region.INPUT)
    yield as_is("axi_read", "AXI_READ", Unit.LOAD_A)
    yield as_is("axi_write", "AXI_WRITE", Unit.STORE)


def error_range(name: str, image: Image) -> tuple[int, int]:
    """Addresses that answer with an error in the scenario `name`."""
    region = {"axi_read": Region.INPUT, "axi_write": Region.OUTPUT}.get(name)
    return (0, 0) if region is None else (image.bases[region], image.bases[region] + image.limits[region])


def found(program: Program, unit: Unit, opcode: Opcode) -> list[tuple[int, Instruction]]:
    """The instructions of that unit and opcode, each with its index."""
    instructions = enumerate(decode_program(program.code))
    return [(index, i) for index, i in instructions if (i.unit, i.form.opcode) == (unit, opcode)]


@cocotb.test(skip="request" not in json.loads(os.environ.get("SYSTOLITH_BENCH_OPTIONS", "{}")))
async def given_program(dut):
    """Runs the memory image that the backend left in a folder, and leaves the result there."""
    bench, host = await start(dut)
    folder = Path(bench.options["request"])
    request = json.loads((folder / "request.json").read_text())
    regions = {Region(int(r)): value for r, value in request["bases"].items()}
    limits = {Region(int(r)): value for r, value in request["limits"].items()}
    image = Image(np.load(folder / "memory.npy"), request["origin"], regions, limits)
    host.window.error = tuple(request["error"])
    host.stall(request["stall"])
    started = time.perf_counter()
    try:
        m = await host.run(image, bytes(image.region(Region.CODE)), request["watchdog"], timeout=1 << 40)
        answer = {"cycles": m.cycles, "counters": dict(m.counters), "seconds": time.perf_counter() - started}
    except HardwareFault as fault:
        answer = {"code": fault.code, "unit": int(fault.unit), "index": fault.index, "detail": fault.detail}
    np.save(folder / "memory.npy", image.data)
    (folder / "answer.json").write_text(json.dumps(answer))
