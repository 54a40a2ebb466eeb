"""EXECUTE with array and accumulators against NumPy convolutions: any layer, back to back, late tokens, faults."""

import dataclasses

import cocotb
import numpy as np

from systolith.config import Config
from systolith.isa import ACC_BITS, Instruction, Opcode, Unit, disassemble, make
from systolith.sim.testbench.support.control_programs import word as header_word
from systolith.sim.testbench.support.execute_host import ExecuteHost
from systolith.sim.testbench.support.execute_model import cycles, execute, random_layer
from systolith.sim.testbench.support.unit_host import check_halts, program

NAME = "execute"
PROGRAMS = 10


def component(config: Config):
    """What to verilate."""
    from systolith.sim.testbench.support.compute_top import ComputeTop

    return ComputeTop(config)


@cocotb.test()
async def random_layers(dut):
    bench = ExecuteHost(dut)
    rng, config = bench.rng, bench.config
    await bench.start()
    expected = np.zeros((config.acc_depth, config.array), np.int32)
    for run in range(PROGRAMS):
        bench.token_rate, bench.issue_rate = ((1.0, 1.0), (1.0, 0.3), (0.1, 1.0), (0.5, 0.5))[run % 4]
        width = (1, config.array - 1, config.array + 1)[run % 3]
        layers = [random_layer(rng, config, rows=1, cols=width), random_layer(rng, config, far=1)]
        layers += [random_layer(rng, config) for _ in range(rng.randint(0, 8))]
        for i in range(1, len(layers)):
            before = layers[i - 1]
            acc = before.run["acc"] + before.outputs - rng.randint(1, min(4, before.outputs))
            if rng.random() < 0.6 and acc % config.acc_half + layers[i].outputs <= config.acc_half:
                layers[i] = layers[i].with_run(acc=acc)
                bench.cover("adds to rows just written", layers[i].run["accumulate"])
        for layer in layers:
            execute(layer, bench.activations, bench.weights, expected)
            kernel, tensor, start = layer.kernel, layer.tensor, layer.run
            bench.cover("M = 1", layer.outputs == 1)
            bench.cover("M < N", layer.outputs < config.array)
            bench.cover("M > N", layer.outputs > config.array)
            bench.cover("several blocks", kernel["blocks"] > 1)
            bench.cover("stride", kernel["stride_y"] > 1 or kernel["stride_x"] > 1)
            bench.cover("dilation", kernel["dilation_y"] > 1 or kernel["dilation_x"] > 1)
            bench.cover("padding", start["y0"] < 0 or start["x0"] < 0)
            bench.cover("far position", start["y0"] in (-8192, 8191))
            bench.cover("accumulate", start["accumulate"])
            bench.cover("overwrite", not start["accumulate"])
            bench.cover("zero point", tensor["zero_point"] != 0)
            bench.cover("address wraps", start["act"] >= config.act_depth)
        await bench.run(program(layers, bench))
        found = await bench.read_accumulators(config.acc_depth)
        wrong = np.flatnonzero((found != expected).any(axis=1))
        assert wrong.size == 0, (
            f"program {run}: accumulator rows {wrong} differ, first:\n{found[wrong[0]]} found, {expected[wrong[0]]} "
            "expected, of\n" + "\n".join(map(disassemble, program(layers)))
        )
    bench.finish(
        require=(
            "M = 1",
            "M < N",
            "M > N",
            "several blocks",
            "stride",
            "dilation",
            "padding",
            "accumulate",
            "overwrite",
            "zero point",
            "address wraps",
            "far position",
            "late token",
            "adds to rows just written",
        )
    )


@cocotb.test()
async def no_bubbles(dut):
    """Tiles cost max(M, N) cycles, across instructions and CONFIG as well."""
    bench = ExecuteHost(dut)
    rng, size = bench.rng, bench.config.array
    await bench.start()
    heights = {
        "M = 1": [1],
        "M = N": [size],
        "M = N + 1": [size + 1],
        "mixed": [1, 2, size - 1, size, size + 1, 2 * size],
    }
    for name, choices in heights.items():
        for kernel in ({"kernel_y": 1, "kernel_x": 1, "blocks": 1}, {}):
            widths = [min(rng.choice(choices), bench.config.acc_half) for _ in range(12)]
            layers = [random_layer(rng, bench.config, rows=1, cols=width, **kernel) for width in widths]
            layers = [layer.with_run(acc=0) for layer in layers]
            await bench.run(program(layers))
            fed = [cycle for cycle, count in enumerate(bench.trace) if count == "fed"]
            ideal = sum(cycles(layer, size) for layer in layers) - max(0, size - layers[-1].outputs)
            found = fed[-1] - fed[0] + 1
            dut._log.info("%s%s: %d cycles, ideal %d", name, ", one tile each" if kernel else "", found, ideal)
            assert len(fed) == sum(layer.tiles * layer.outputs for layer in layers)
            assert found == ideal, f"{name}: cycles must be {ideal}, not {found}"
            bench.cover(name)
    bench.finish(require=heights)


def faulty(bench: ExecuteHost) -> dict[str, tuple[str, list[Instruction | int]]]:
    """For each way to be wrong: the error, and a program whose last instruction is at fault."""
    rng, config = bench.rng, bench.config
    layer = random_layer(
        rng,
        config,
        rows=1,
        cols=4,
        kernel_y=1,
        kernel_x=1,
        blocks=2,
        stride_y=1,
        stride_x=1,
        dilation_y=1,
        dilation_x=1,
    )
    tensor = make("CONFIG.EXECUTE.input", height=8, width=8, row_stride=8, block_stride=0, zero_point=0)
    good = {"act": 0, "weight": 0, "y0": 0, "x0": 0, "rows": 1, "cols": 4, "acc": 0, "accumulate": 0}

    def wrong(kernel: Instruction = layer.kernel, **changes: int) -> list[Instruction | int]:
        return [tensor, kernel, make("EXECUTE", **{**good, **changes})]

    def kernel_with(name: str) -> list[Instruction | int]:
        return wrong(dataclasses.replace(layer.kernel, values={**layer.kernel.values, name: 0}))

    cases = {
        "rows of zero": ("OPERAND", wrong(rows=0)),
        "cols of zero": ("OPERAND", wrong(cols=0)),
        **{f"{name} of zero": ("OPERAND", kernel_with(name)) for name in ("kernel_y", "kernel_x", "blocks")},
        "leaves its half": ("OPERAND", wrong(acc=config.acc_half - 3)),
        "leaves the upper half": ("OPERAND", wrong(acc=config.acc_depth - 3)),
        "weights beyond": ("SRAM_RANGE", wrong(weight=config.weight_depth - 2 * config.array + 1)),
        "activations beyond": ("SRAM_RANGE", wrong(act=config.act_depth - 3)),
        "no opcode": ("OPCODE", [tensor, layer.kernel, 0]),
        "no group": ("OPCODE", [tensor, layer.kernel, header_word(Opcode.CONFIG, Unit.EXECUTE, payload=7)]),
        "opcode of another unit": ("OPCODE", [tensor, layer.kernel, header_word(Opcode.LOAD, Unit.EXECUTE)]),
    }
    if config.acc_depth < 1 << ACC_BITS:
        cases["accumulators beyond"] = "SRAM_RANGE", wrong(acc=config.acc_depth)
    return cases


@cocotb.test()
async def faults(dut):
    """Each wrong instruction is named, stops the unit, and a reset makes it work again."""
    bench = ExecuteHost(dut)
    await bench.start()
    cases = faulty(bench)
    for name, (error, instructions) in cases.items():
        wait = 12 * bench.config.array + 80
        first = await bench.provoke(name, error, [*instructions, instructions[0]], 2, wait)
        assert bench.retired == [(first, 0), (first + 1, 0)], f"{name}: {bench.retired} retired"
        await bench.reset()
    bench.may_fault = False
    expected = np.zeros((bench.config.acc_depth, bench.config.array), np.int32)
    layer = random_layer(bench.rng, bench.config, accumulate=0)
    execute(layer, bench.activations, bench.weights, expected)
    await bench.run(program([layer]))
    rows = slice(layer.run["acc"], layer.run["acc"] + layer.outputs)
    assert ((await bench.read_accumulators(bench.config.acc_depth))[rows] == expected[rows]).all(), "wrong after reset"
    bench.finish(require=cases)


@cocotb.test()
async def halts(dut):
    """After `halt` no token is taken, and no access starts."""
    bench = ExecuteHost(dut)
    await bench.start()

    def draw():
        return [random_layer(bench.rng, bench.config) for _ in range(6)]

    await check_halts(bench, draw, 60, ("weights__valid", "activations__valid", "unit__tokens__take",
                                        "weight_tokens__take", "unit__instruction__ready"))  # fmt: skip
