"""The depthwise unit against NumPy: any kernel, back to back, refused reads, late tokens, cycles, faults, halts."""

import dataclasses
from itertools import pairwise

import cocotb
import numpy as np

from systolith.config import Config
from systolith.isa import ACC_BITS, ADDRESS_BITS, Instruction, Opcode, Unit, disassemble, make
from systolith.sim.testbench.support.control_programs import word as header_word
from systolith.sim.testbench.support.convolution_model import Layer
from systolith.sim.testbench.support.depthwise_model import depthwise, passes, random_layer
from systolith.sim.testbench.support.unit_host import UnitHost, check_halts, program

NAME = "depthwise"
PROGRAMS = 16
KERNEL = {"kernel_y": 3, "kernel_x": 3, "stride_y": 1, "stride_x": 1, "dilation_y": 1, "dilation_x": 1}
BUSY = 1


def component(config: Config):
    """What to verilate."""
    from systolith.hw.depthwise.unit import DepthwiseUnit

    return DepthwiseUnit(config)


def applies(config: Config) -> bool:
    """Whether the configuration has this unit."""
    return config.dw_taps > 0


class Host(UnitHost):
    """The unit with its accumulators, and a trace of the cycles in which it took a word."""

    def __init__(self, dut):
        super().__init__(dut, {"unit__tokens": 0x3F})
        self.fed: list[int] = []
        self.cycle = 0

    def monitor(self) -> None:
        super().monitor()
        self.cycle += 1
        if int(self.dut.counts.value) & BUSY:
            self.fed.append(self.cycle)

    async def start(self):
        await super().start()
        self.expected = await self.read_accumulators(self.config.dw_depth)

    async def check(self, layers: list[Layer], instructions: list[Instruction]) -> None:
        """Run it, and compare all accumulators."""
        self.fed.clear()
        for layer in layers:
            depthwise(layer, self.activations, self.weights, self.expected)
        await self.run(instructions)
        words = sum(words for layer in layers for words, _ in passes(layer, self.config))
        assert len(self.fed) == words, f"{len(self.fed)} words taken, {words} expected"
        found = await self.read_accumulators(self.config.dw_depth)
        wrong = np.flatnonzero((found != self.expected).any(axis=1))
        if wrong.size:
            text = "\n".join(map(disassemble, instructions))
            raise AssertionError(
                f"accumulator rows {wrong} differ, first:\n{found[wrong[0]]} found, {self.expected[wrong[0]]} "
                f"expected, of\n{text}"
            )


@cocotb.test()
async def random_layers(dut):
    bench = Host(dut)
    rng, config = bench.rng, bench.config
    await bench.start()
    points = {
        "M = 1": lambda layer: layer.outputs == 1,
        "M = 2 or 3": lambda layer: layer.outputs in (2, 3),
        "a whole half": lambda layer: layer.outputs == config.dw_half,
        "upper half": lambda layer: layer.run["acc"] >= config.dw_half,
        "one column": lambda layer: layer.run["cols"] == 1 < layer.run["rows"],
        "one tap": lambda layer: layer.taps == 1,
        "kernel of 7": lambda layer: layer.kernel["kernel_x"] == 7,
        "stride of 0": lambda layer: 0 in (layer.kernel["stride_y"], layer.kernel["stride_x"]),
        "stride of 2": lambda layer: layer.kernel["stride_y"] == layer.kernel["stride_x"] == 2,
        "dilation": lambda layer: layer.kernel["dilation_y"] > 1 or layer.kernel["dilation_x"] > 1,
        "padding": lambda layer: layer.run["y0"] < 0 or layer.run["x0"] < 0,
        "far position": lambda layer: layer.run["y0"] in (-8192, 8191),
        "address wraps": lambda layer: layer.run["act"] >= config.act_depth,
        "zero point": lambda layer: layer.tensor["zero_point"] != 0,
        "fewer passes than taps": lambda layer: len(passes(layer, config)) < layer.taps,
        "as many passes as taps": lambda layer: len(passes(layer, config)) == layer.taps > 1,
        "passes for several lines": lambda layer: max(taps for _, taps in passes(layer, config)) > 3,
        "line just fits": lambda layer: reaches(layer, 0),
        "line just too long": lambda layer: reaches(layer, 1),
    }  # fmt: skip

    def fitting(stride: int) -> int:
        """Columns of which the line of a 3x3 kernel fits into the line buffers."""
        return (min(config.dw_depth, 256) - 3) // stride + 1

    def reaches(layer: Layer, more: int) -> bool:
        stride, cols = layer.kernel["stride_x"], layer.run["cols"]
        same = layer.kernel.values == {**KERNEL, "stride_x": stride}
        return same and stride in (2, 3) and cols == fitting(stride) + more

    for run in range(PROGRAMS):
        stride = rng.choice((2, 3))
        bench.token_rate, bench.issue_rate = ((1.0, 1.0), (1.0, 0.3), (0.1, 1.0), (0.5, 0.5))[run % 4]
        bench.refusals = (0, 0.2, 0.8)[run % 3]
        layers = [
            random_layer(rng, config, far=1),
            random_layer(rng, config, rows=1, cols=1, **KERNEL),
            random_layer(rng, config, rows=1, cols=fitting(stride) + run % 2, far=0, **{**KERNEL, "stride_x": stride}),
            random_layer(rng, config, kernel_y=1, kernel_x=1),
            random_layer(rng, config, stride_y=2, stride_x=2),
            *(random_layer(rng, config, rows=rng.randint(1, 3), cols=rng.randint(1, 3)) for _ in range(3)),
            *(random_layer(rng, config) for _ in range(rng.randint(0, 10))),
        ]
        rng.shuffle(layers)
        for layer in layers:
            for point, holds in points.items():
                bench.cover(point, holds(layer))
        await bench.check(layers, program(layers, bench))
    absent = {1: ("fewer passes than taps", "passes for several lines"), 3: ("passes for several lines",), 9: ()}
    bench.finish(
        require=("late token", "weights refused", "activations refused", *(points.keys() - absent[config.dw_taps]))
    )


@cocotb.test()
async def edge_values(dut):
    """The largest sums: every input, weight and padding -128 or 127, kernels of 255 columns."""
    bench = Host(dut)
    config = bench.config
    await bench.start()
    for value, weight in ((-128, -128), (-128, 127), (127, -128), (127, 127)):
        bench.activations[:], bench.weights[:] = value, weight
        layers = [random_layer(bench.rng, config, far=0) for _ in range(3)]
        longest = min(255, config.weight_depth)
        layers.append(random_layer(bench.rng, config, rows=1, cols=2, **{**KERNEL, "kernel_y": 1, "kernel_x": longest}))
        layers = [
            dataclasses.replace(
                layer, tensor=dataclasses.replace(layer.tensor, values={**layer.tensor.values, "zero_point": value})
            )
            for layer in layers
        ]
        await bench.check(layers, program(layers))
        bench.cover("edge values")
    bench.finish(require=("edge values",))


@cocotb.test()
async def no_bubbles(dut):
    """Passes and instructions follow each other without a gap, where they read enough."""
    bench = Host(dut)
    rng, config = bench.rng, bench.config
    await bench.start()
    side = int(config.dw_half**0.5)
    cases = {
        "3x3": KERNEL,
        "3x3, stride 2": {**KERNEL, "stride_y": 2, "stride_x": 2},
        "5x5": {**KERNEL, "kernel_y": 5, "kernel_x": 5},
        "3x3, dilation 2": {**KERNEL, "dilation_y": 2, "dilation_x": 2},
        "1x7": {**KERNEL, "kernel_y": 1, "kernel_x": 7},
    }
    for name, kernel in cases.items():
        first = random_layer(rng, config, rows=side, cols=side, far=0, **kernel)
        layers = [first, first.with_run(acc=first.run["acc"] ^ config.dw_half)] * 3
        await bench.check(layers, program(layers))
        span = bench.fed[-1] - bench.fed[0] + 1
        gaps = span - len(bench.fed)
        dut._log.info("%s of %d x %d: %d words, %d gaps", name, side, side, len(bench.fed), gaps)
        run = [step for layer in layers for step in passes(layer, config)]
        short = sum(max(0, taps + 4 - words) for (words, _), (_, taps) in pairwise(run))
        assert gaps <= short, f"{name}: {gaps} gaps, {short} allowed"
        bench.cover(name)
    # The words of a 3x3 kernel: nine of each output, three of each line's inputs, or each input of the tile once.
    words = {1: 9 * side * side, 3: 3 * side * (side + 2), 9: (side + 2) ** 2}[config.dw_taps]
    layer = random_layer(rng, config, rows=side, cols=side, far=0, **KERNEL)
    await bench.check([layer], program([layer]))
    assert len(bench.fed) == words
    bench.finish(require=cases)


def faulty(bench: Host) -> dict[str, tuple[str, list[Instruction | int]]]:
    """For each way to be wrong: the error, and a program whose last instruction is at fault."""
    config = bench.config
    tensor = make("CONFIG.DEPTHWISE.input", height=8, width=8, row_stride=8, zero_point=0)
    good = {"act": 0, "weight": 0, "y0": 0, "x0": 0, "rows": 2, "cols": 2, "acc": 0}

    def wrong(changes: dict[str, int] | None = None, **kernel: int) -> list[Instruction | int]:
        return [
            tensor,
            make("CONFIG.DEPTHWISE.kernel", **{**KERNEL, **kernel}),
            make("DEPTHWISE", **{**good, **(changes or {})}),
        ]

    config_word = header_word(Opcode.CONFIG, Unit.DEPTHWISE)
    cases = {
        "rows of zero": ("OPERAND", wrong({"rows": 0})),
        "cols of zero": ("OPERAND", wrong({"cols": 0})),
        "kernel_y of zero": ("OPERAND", wrong(kernel_y=0)),
        "kernel_x of zero": ("OPERAND", wrong(kernel_x=0)),
        "leaves its half": ("OPERAND", wrong({"acc": config.dw_half - 3})),
        "leaves the upper half": ("OPERAND", wrong({"acc": config.dw_depth - 3})),
        "weights beyond": ("SRAM_RANGE", wrong({"weight": config.weight_depth - 8})),
        "weights far beyond": ("SRAM_RANGE", wrong({"weight": (1 << ADDRESS_BITS) - 1})),
        "activations beyond": ("SRAM_RANGE", wrong({"act": config.act_depth - 3})),
        "no opcode": ("OPCODE", [*wrong()[:2], 0]),
        "no group": ("OPCODE", [*wrong()[:2], config_word | 7 << 20]),
        "opcode of another unit": ("OPCODE", [*wrong()[:2], header_word(Opcode.LOAD, Unit.DEPTHWISE)]),
    }
    if config.dw_depth < 1 << ACC_BITS:
        cases["accumulators beyond"] = "SRAM_RANGE", wrong({"acc": config.dw_depth})
    return cases


@cocotb.test()
async def faults(dut):
    """Each wrong instruction is named, in its turn, stops the unit, and a reset makes it work again."""
    bench = Host(dut)
    await bench.start()
    cases = faulty(bench)
    for name, (error, instructions) in cases.items():
        before = random_layer(bench.rng, bench.config, rows=2, cols=2, far=0, **KERNEL)
        listing = [*program([before]), *instructions, instructions[0], before.run]
        first = await bench.provoke(name, error, listing, 5, 400)
        assert all(index < first + 5 for index, _ in bench.retired), f"{name}: {bench.retired} retired"
        await bench.reset()
    bench.may_fault = False
    layers = [random_layer(bench.rng, bench.config) for _ in range(3)]
    bench.expected = await bench.read_accumulators(bench.config.dw_depth)
    await bench.check(layers, program(layers))
    bench.finish(require=cases)


@cocotb.test()
async def halts(dut):
    """After `halt` no token is taken, no access starts, and nothing retires."""
    bench = Host(dut)
    await bench.start()

    def draw():
        return [random_layer(bench.rng, bench.config, far=0) for _ in range(6)]

    await check_halts(bench, draw, 200, ("weights__valid", "activations__valid", "unit__tokens__take",
                                         "unit__retired", "unit__instruction__ready"))  # fmt: skip
