"""The instruction simulator on hand-made programs: results, tokens, deadlock, and every refusal."""

import numpy as np
import pytest

from systolith import PRESETS, Config, SystolithError
from systolith.isa import Instruction, Region, Unit, encode_program, make
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import build
from systolith.sim.isa.simulator import simulate
from tests.support.fault_programs import FAULTS, TINY, changed
from tests.support.handmade_program import Convolution, instructions, mask
from tests.support.seeds import seeds


def run(case: Convolution, seed: int | None = None) -> np.ndarray:
    image = build(case.program, {"x": case.input}, seed)
    before = image.copy()
    simulate(case.program.code, case.config, image, seed)
    assert image.stray_writes(before) == []
    return image.output(case.program.outputs[0], case.config.array)


@pytest.mark.parametrize("config", [TINY, PRESETS["edge16"]], ids=lambda c: c.name)
@seeds(4)
def test_convolution_equals_numpy(config: Config, seed: int):
    """In program order, and with units in random order."""
    case = Convolution(config, seed)
    assert np.array_equal(run(case, seed or None), case.output)


def fault_of(listing: list[Instruction] | bytes) -> HardwareFault:
    code = listing if isinstance(listing, bytes) else encode_program(listing)
    with pytest.raises(HardwareFault) as caught:
        run(Convolution(TINY, code=code))
    return caught.value


@pytest.mark.parametrize(("listing", "code", "unit", "index"), FAULTS)
def test_refusals(listing: list[Instruction] | bytes, code: str, unit: Unit, index: int):
    fault = fault_of(listing)
    assert (fault.code, fault.unit, fault.index) == (code, unit, index)
    assert isinstance(fault, SystolithError)
    assert "\n" not in str(fault)
    assert f"{unit.name}, instruction {index}" in str(fault)


def test_missing_token_says_which():
    fault = fault_of(changed(11, wait=mask(Unit.EXECUTE, Unit.LOAD_W, Unit.LOAD_A)))
    assert fault.detail == mask(Unit.LOAD_A)
    assert "SFU waits for a token from LOAD_A" in str(fault)


def test_offsets_wrap_at_32_bits():
    """Row 0 is outside the tensor; its address would be negative."""
    listing = instructions(TINY, 5)
    listing[4] = make(
        "LOAD.A",
        region=Region.INPUT,
        offset=2**32 - 5 * TINY.array,
        sram=97,
        rows=6,
        cols=5,
        x0=0,
        y0=-1,
        signal=mask(Unit.EXECUTE),
    )
    listing[7] = make("EXECUTE", **{**listing[7].values, "act": 97 + 6}, wait=listing[7].wait, signal=listing[7].signal)
    listing[11] = make("SFU", **{**listing[11].values, "dst": 200}, wait=listing[11].wait, signal=listing[11].signal)
    listing[13] = make("STORE", **{**listing[13].values, "sram": 200}, wait=listing[13].wait)
    case = Convolution(TINY, code=encode_program(listing))
    assert np.array_equal(run(case), case.output)


@pytest.mark.parametrize(("producer", "consumer"), [(1, 7), (4, 7), (7, 11), (11, 13)])
def test_missing_token_shows_in_some_order(producer: int, consumer: int):
    """Without the token between two instructions, at least one of 40 orders gives a wrong result."""
    listing = instructions(TINY, 5)
    give, take = listing[producer], listing[consumer]
    listing[producer] = make(give.form.name, give.wait, give.signal & ~(1 << take.unit), **give.values)
    listing[consumer] = make(take.form.name, take.wait & ~(1 << give.unit), take.signal, **take.values)
    cases = [(Convolution(TINY, seed, code=encode_program(listing)), seed) for seed in range(40)]
    assert not all(np.array_equal(run(case, seed), case.output) for case, seed in cases)


def test_token_overflow():
    unwaited = make("LOAD.W", region=Region.WEIGHTS, offset=0, sram=0, words=1, target=0, signal=mask(Unit.STORE))
    fault = fault_of(encode_program([unwaited] * 16 + [make("END")]))
    assert (fault.code, fault.unit, fault.index) == ("TOKEN_OVERFLOW", Unit.LOAD_W, 15)


def test_accumulate_and_fence():
    listing = instructions(TINY, 5)
    again = make("EXECUTE", **{**listing[7].values, "accumulate": 1}, signal=mask(Unit.SFU))
    first = make("EXECUTE", **listing[7].values, wait=listing[7].wait)
    listing[7:8] = [first, make("FENCE"), again]
    case = Convolution(TINY, code=encode_program(listing))
    image = build(case.program, {"x": case.input})
    simulator = simulate(case.program.code, TINY, image)
    assert simulator.retired[Unit.EXECUTE] == 4
    assert not np.array_equal(image.output(case.program.outputs[0], 4), case.output)
