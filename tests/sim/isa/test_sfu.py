"""SFU and DEPTHWISE of the instruction simulator against loops over the definition, and what a missing `drain` does."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from systolith import PRESETS, Config
from systolith.isa import Instruction, Region, Unit, make
from systolith.sim.host.memory_image import Image
from systolith.sim.isa.checks import CHECKS, Constants
from systolith.sim.isa.sfu import fill_table, sfu
from systolith.sim.isa.state import Refused, State
from systolith.sim.isa.units import depthwise
from systolith.sim.stimulus.instructions import Draw
from systolith.sim.stimulus.sfu import RandomSfu
from tests.support.seeds import each_seed, many

TINY = replace(PRESETS["tiny4"], dw_taps=3, dw_depth=128)
ADDRESSES = 1 << 18


def state_of(config: Config, seed: int) -> State:
    """Garbage in every memory, but scales that are positive and normal."""
    rng = np.random.default_rng(seed)
    memory = Image(np.zeros(0, np.uint8), 0, dict.fromkeys(Region, 0), dict.fromkeys(Region, 0))
    state = State.garbage(config, memory, rng)
    count = config.param_depth * config.array
    bias = rng.integers(-(1 << 31), 1 << 31, count) >> rng.integers(0, 32, count)
    scale = np.exp2(rng.uniform(-32, 0, count)).astype(np.float32)
    parameters = np.stack([bias.astype(np.int32).view(np.uint32), scale.view(np.uint32)], axis=1)
    state.params[:] = parameters.view(np.uint8).reshape(state.params.shape)
    return state


def drawn(rng: np.random.Generator, kind: str) -> tuple[Instruction, Constants, list[Instruction]]:
    """An instruction, the constants for it, and the changes of the table."""
    draw = Draw(rng, TINY, 1000, 1000)
    listing = [i for i, _ in (RandomSfu(draw).sfu() if kind == "SFU" else draw.instruction(kind))]
    tables = [i for i in listing if i.form.name == "CONFIG.SFU.table"]
    constants = {i.form.name.split(".")[-1]: i.values for i in listing[:-1]}
    return listing[-1], constants, tables


def window(memory: np.ndarray, base: int, source, kernel, i: Instruction, y0: int, x0: int, oy: int, ox: int, pad: int):
    """Words (numbers, for activations) of one window, tap by tap; `pad` outside the input."""
    for ky in range(kernel["kernel_y"]):
        for kx in range(kernel["kernel_x"]):
            y = y0 + oy * kernel["stride_y"] + ky * kernel["dilation_y"]
            x = x0 + ox * kernel["stride_x"] + kx * kernel["dilation_x"]
            if 0 <= y < source["height"] and 0 <= x < source["width"]:
                yield memory[(base + y * source["row_stride"] + x) % ADDRESSES].astype(int).tolist()
            else:
                yield [pad] * memory.shape[1]


def wrapped(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def clamp(value: int, constants) -> int:
    return min(max(value, constants["clamp_min"]), constants["clamp_max"])


def requantized(value: int, scale: np.float32, constants, joint: bool) -> int:
    """Python's own rounding of exact fractions where float32 has a product; both round ties to even."""
    product, zero_point = Fraction(float(np.float32(value) * scale)), constants["zero_point"]
    return clamp(round(product + zero_point) if joint else round(product) + zero_point, constants)


def expected(state: State, i: Instruction, c: Constants) -> np.ndarray:
    """Activation SRAM after an SFU instruction, element by element."""
    act, parameters = state.act.copy(), state.params.view(np.int32).reshape(-1, state.config.array, 2)
    memory = (state.acc, state.act, state.dw_acc)[i["memory"]]
    for oy in range(i["rows"]):
        for ox in range(i["cols"]):
            taps = list(window(memory, i["source"], c["input"], c["window"], i, c["input"]["y0"], c["input"]["x0"],
                               oy, ox, c["input"]["pad"]))  # fmt: skip
            for lane in range(state.config.array):
                column = [tap[lane] for tap in taps]
                v = wrapped(sum(column)) if i["reduce"] else max(column)
                bias, bits = parameters[i["param"], lane]
                other = 0
                if i["second"]:
                    word = i["operand"] + oy * c["operand"]["row_stride"] + ox * c["operand"]["col_step"]
                    other = int(state.act[word, lane]) - c["operand"]["zero_b"]
                if i["second"] == 2:
                    v = (v - c["operand"]["zero_a"]) * other
                r = requantized(wrapped(v + int(bias)), bits.view(np.float32), c["output"], i["second"] == 2)
                if i["second"] == 1:
                    first = (r - c["operand"]["zero_a"]) * c["add"]["multiplier_a"]
                    total = Fraction(first + other * c["add"]["multiplier_b"], 1 << c["add"]["shift"])
                    r = clamp(round(total + c["add"]["zero_point"]), c["add"])
                if c["output"]["lookup"]:
                    r = int(state.table[r % 256])
                act[i["dst"] + oy * c["output"]["row_stride"] + ox * c["output"]["col_stride"], lane] = r
    return act[:-1]


def test_sfu_equals_loops():
    met: Counter = Counter()
    for seed in each_seed(range(many(150))):
        state = state_of(TINY, seed)
        instruction, constants, tables = drawn(np.random.default_rng(seed), "SFU")
        for table in tables:
            fill_table(state, table)
        assert all(state.table[8 * t["index"] + k] == np.int8(np.uint8(t["entries"] >> 8 * k & 255))
                   for t in tables[-1:] for k in range(8))  # fmt: skip
        wanted = expected(state, instruction, constants)
        sfu(state, instruction, constants)
        assert np.array_equal(state.act[:-1], wanted), f"seed {seed}"
        met.update((name, instruction[name]) for name in ("memory", "reduce", "second"))
        met.update(
            [("lookup", constants["output"]["lookup"]), ("step", min(constants["output"]["col_stride"], 2)),
             ("broadcast", constants["operand"]["col_step"] == 0), ("table", bool(tables)),
             ("outside", constants["input"]["y0"] < 0), ("window", constants["window"]["kernel_x"] > 1)])  # fmt: skip
    wanted_points = [("memory", 0), ("memory", 1), ("memory", 2), ("reduce", 1), ("second", 1), ("second", 2),
                     ("lookup", 1), ("step", 2), ("broadcast", True), ("table", True), ("outside", True),
                     ("window", True)]  # fmt: skip
    assert all(met[point] >= 5 for point in wanted_points), met


def test_depthwise_equals_loops():
    for seed in each_seed(range(many(60))):
        state = state_of(TINY, seed)
        i, c, _ = drawn(np.random.default_rng(seed), "DEPTHWISE")
        wanted = state.dw_acc.copy()
        for oy in range(i["rows"]):
            for ox in range(i["cols"]):
                taps = window(state.act, i["act"], c["input"], c["kernel"], i, i["y0"], i["x0"], oy, ox,
                              c["input"]["zero_point"])  # fmt: skip
                sums = [0] * TINY.array
                for k, tap in enumerate(taps):
                    weights = state.weights[i["weight"] + k]
                    sums = [total + x * int(w) for total, x, w in zip(sums, tap, weights, strict=True)]
                wanted[i["acc"] + oy * i["cols"] + ox] = sums
        depthwise(state, i, c)
        assert np.array_equal(state.dw_acc, wanted), f"seed {seed}"


CONSTANTS = {
    "output": {"zero_point": 0, "clamp_min": -128, "clamp_max": 127, "row_stride": 4, "col_stride": 1, "lookup": 0},
    "input": {"height": 4, "width": 4, "row_stride": 4, "y0": 0, "x0": 0, "pad": 0},
    "window": {"kernel_y": 1, "kernel_x": 1, "stride_y": 1, "stride_x": 1, "dilation_y": 1, "dilation_x": 1},
    "operand": {"row_stride": 4, "col_step": 1, "zero_a": 0, "zero_b": 0},
    "add": {"multiplier_a": 1, "multiplier_b": 1, "shift": 0, "zero_point": 0, "clamp_min": -128, "clamp_max": 127},
}
COPY = {"memory": 1, "reduce": 0, "second": 0, "drain": 0, "source": 0, "operand": 0, "dst": 64, "rows": 4, "cols": 4,
        "param": 0}  # fmt: skip


def copies() -> State:
    """A state whose parameters change nothing."""
    state = state_of(TINY, 0)
    state.params.view(np.int32).reshape(-1, 2)[:] = [0, np.float32(1).view(np.int32)]
    return state


@pytest.mark.parametrize("reads", [{"source": 64}, {"source": 0, "second": 1, "operand": 79}])
def test_missing_drain_shows(reads: dict[str, int]):
    """An instruction that reads what the one before wrote; the operand's last word is what it wrote first."""
    found = []
    for drain in (0, 1):
        state = copies()
        sfu(state, make("SFU", **COPY), CONSTANTS)
        sfu(state, make("SFU", **{**COPY, "dst": 128, "drain": drain, **reads}), CONSTANTS)
        found.append(state.act[128:144].copy())
    assert (found[0] != found[1]).any()
    if "second" not in reads:
        assert np.array_equal(found[1], state.act[:16])


def test_changing_the_table_drains():
    state = copies()
    sfu(state, make("SFU", **COPY), CONSTANTS)
    fill_table(state, make("CONFIG.SFU.table", index=0, entries=0))
    sfu(state, make("SFU", **{**COPY, "source": 64, "dst": 128}), CONSTANTS)
    assert np.array_equal(state.act[128:144], state.act[:16])


def test_reading_what_the_instruction_wrote_shows():
    """Shifted by a word it reads its own outputs; in place, each output reads its own word only."""
    state = copies()
    before = state.act.copy()
    sfu(state, make("SFU", **{**COPY, "dst": 0}), CONSTANTS)
    assert np.array_equal(state.act[:16], before[:16])
    state = copies()
    sfu(state, make("SFU", **{**COPY, "dst": 1}), CONSTANTS)
    assert not np.array_equal(state.act[1:17], before[:16])


BAD = [
    ({"memory": 3}, {}, "OPCODE"),
    ({"second": 3}, {}, "OPCODE"),
    ({"second": 2, "memory": 0}, {}, "OPCODE"),
    ({"second": 2, "reduce": 1}, {}, "OPCODE"),
    ({"rows": 0}, {}, "OPERAND"),
    ({}, {"window": {"kernel_x": 0}}, "OPERAND"),
    ({}, {"output": {"col_stride": 0}}, "OPERAND"),
    ({"param": TINY.param_depth}, {}, "SRAM_RANGE"),
    ({"dst": TINY.act_depth - 15}, {}, "SRAM_RANGE"),
    ({"dst": TINY.act_depth - 30}, {"output": {"col_stride": 10}}, "SRAM_RANGE"),
    ({"source": TINY.act_depth - 15}, {}, "SRAM_RANGE"),
    ({"second": 1, "operand": TINY.act_depth - 15}, {}, "SRAM_RANGE"),
    ({"memory": 0, "source": TINY.acc_half - 15}, {}, "OPERAND"),
    ({"memory": 2, "source": TINY.dw_half - 15}, {}, "OPERAND"),
    ({"memory": 2, "source": TINY.dw_depth}, {}, "SRAM_RANGE"),
]


@pytest.mark.parametrize(("fields", "groups", "code"), BAD)
def test_refusals(fields: dict[str, int], groups: dict[str, dict[str, int]], code: str):
    constants = {name: {**values, **groups.get(name, {})} for name, values in CONSTANTS.items()}
    instruction = make("SFU", **{**COPY, **fields})
    with pytest.raises(Refused) as caught:
        CHECKS[Unit.SFU](TINY, instruction, constants)
        sfu(state_of(TINY, 1), instruction, constants)
    assert caught.value.code == code


def test_no_depthwise_accumulators_without_the_unit():
    with pytest.raises(Refused, match="OPCODE"):
        CHECKS[Unit.SFU](PRESETS["tiny4"], make("SFU", **{**COPY, "memory": 2}), CONSTANTS)
