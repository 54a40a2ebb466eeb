"""Several errors in one instruction: instruction simulator and RTL report the same one."""

from collections import Counter

import numpy as np
import pytest

from systolith.isa import Instruction, encode_program, make
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import build
from systolith.sim.isa import simulator
from systolith.sim.rtl import native_backend
from tests.support.fault_programs import TINY
from tests.support.handmade_program import Convolution, instructions
from tests.support.seeds import each_seed, many

SIZE = 5
INDEX = {"LOAD.W": 1, "LOAD.A": 4, "EXECUTE": 7, "SFU": 11, "STORE": 13}


def around(rng: np.random.Generator, limit: int, below: int, above: int = 2) -> int:
    return max(0, int(limit + rng.integers(-below, above)))


def draw(rng: np.random.Generator, name: str) -> dict[str, dict[str, int]]:
    """Fields of some instructions of the convolution, so that accesses leave what there is early or late, or do not."""
    act, n = TINY.act_depth, TINY.array
    pixels = SIZE * SIZE
    match name:
        case "LOAD.W":
            chosen = {"sram": around(rng, TINY.weight_depth - 36, 4), "offset": int(rng.integers(0, 64))}
        case "LOAD.A":
            chosen = {"sram": around(rng, act - 28, 20, 28), "offset": int(rng.integers(0, 100)),
                      "y0": int(rng.integers(-2, 3)), "x0": int(rng.integers(-4, 4))}  # fmt: skip
        case "EXECUTE":
            # Of 9 tiles: where weights, rows, or the half of the accumulators end.
            chosen = {"weight": around(rng, TINY.weight_depth - int(rng.integers(0, 10)) * n, n, n),
                      "act": around(rng, act - 30, 16, 30),
                      "acc": around(rng, TINY.acc_half - pixels, 9, pixels)}  # fmt: skip
            if rng.random() < 0.1:
                chosen["acc"] = TINY.acc_depth
        case "SFU":
            # `operand` is used by those with `second`.
            chosen = {"source": around(rng, TINY.acc_half - pixels, 3, pixels),
                      "dst": around(rng, act - pixels, 3, pixels),
                      "operand": around(rng, act - pixels, 3, pixels), "second": int(rng.integers(0, 2))}  # fmt: skip
        case _:
            chosen = {"sram": around(rng, act - pixels, 4, pixels), "offset": int(rng.integers(0, 100))}
    return {name: chosen}


def listing(changes: dict[str, dict[str, int]]) -> list[Instruction]:
    """The convolution with other fields; the SFU's second operand lies as its output does."""
    found = instructions(TINY, SIZE)
    for name, values in changes.items():
        old = found[INDEX[name]]
        found[INDEX[name]] = make(name, old.wait, old.signal, **{**old.values, **values})
    extra = make("CONFIG.SFU.operand", row_stride=SIZE, col_step=1, zero_a=0, zero_b=0)
    return [extra, *found]


def fault_of(simulate, case: Convolution) -> tuple | None:
    image = build(case.program, {"x": case.input})
    try:
        simulate(case.program.code, TINY, image)
    except HardwareFault as fault:
        return fault.code, int(fault.unit), fault.index, fault.detail
    return None


@pytest.mark.rtl
@pytest.mark.parametrize("name", INDEX)
def test_the_first_error_is_reported(name: str):
    codes = Counter()
    for seed in each_seed(range(many(120))):
        rng = np.random.default_rng(seed)
        changes = draw(rng, name)
        case = Convolution(TINY, code=encode_program(listing(changes)))
        expected = fault_of(simulator.simulate, case)
        assert fault_of(native_backend.simulate, case) == expected, f"seed {seed}: {changes}"
        codes[expected and expected[0]] += 1
    assert len(codes) >= 2, codes
    if name in ("EXECUTE", "SFU"):
        assert {"OPERAND", "SRAM_RANGE"} <= codes.keys(), codes
