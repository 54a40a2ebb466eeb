"""The accelerator in the native harness: results, cycles, faults and recovery, all as in the instruction simulator."""

from pathlib import Path

import numpy as np
import pytest

from systolith import PRESETS, Config
from systolith.isa import Instruction, Region, Unit, encode_program, make
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import Image, build
from systolith.sim.host.memory_model import STANDARD, MemoryModel
from systolith.sim.report import layer_cycles
from systolith.sim.rtl.native_backend import Accelerator
from tests.support.fault_programs import FAULTS, changed
from tests.support.handmade_program import Convolution, mask
from tests.support.seeds import seeds

pytestmark = pytest.mark.rtl

TINY = PRESETS["tiny4"]
SLOW = MemoryModel(read_latency=100, write_latency=40, bandwidth=0.3, stall=0.4, outstanding=2, seed=5)


def image_of(case: Convolution, seed: int | None = None) -> Image:
    return build(case.program, {"x": case.input}, seed)


def finish(accelerator: Accelerator, case: Convolution) -> None:
    """Run, and compare everything in memory with what NumPy says."""
    before = accelerator.image.copy()
    accelerator.run(watchdog=10_000, max_cycles=1_000_000)
    assert np.array_equal(accelerator.image.output(case.program.outputs[0], case.config.array), case.output)
    assert accelerator.image.stray_writes(before) == []


@pytest.mark.parametrize("config", [TINY, PRESETS["ecp5_8"]], ids=lambda c: c.name)
@pytest.mark.parametrize("memory", [STANDARD, MemoryModel(read_latency=1, write_latency=1), SLOW],
                         ids=["standard", "fast", "slow"])  # fmt: skip
@seeds(3)
def test_convolution_equals_numpy(config: Config, memory: MemoryModel, seed: int):
    case = Convolution(config, seed)
    with Accelerator(config, image_of(case, seed or None), case.program.code, memory) as accelerator:
        finish(accelerator, case)


def test_a_run_leaves_nothing_behind():
    case = Convolution(TINY)
    with Accelerator(TINY, image_of(case), case.program.code) as accelerator:
        cycles = [accelerator.run().cycles for _ in range(3)]
        assert cycles[1] == cycles[2]
        finish(accelerator, case)


def test_measurement():
    case = Convolution(TINY)
    with Accelerator(TINY, image_of(case), case.program.code) as accelerator:
        measurement = accelerator.run()
    counters = measurement.counters
    assert counters["cycles"] == measurement.cycles > 0
    assert counters["array_rows"] == 9 * 25
    assert counters["write_beats"] * TINY.axi_bytes >= case.output.size
    assert counters["read_beats"] * TINY.axi_bytes >= len(case.program.code) + len(case.program.weights)
    # All instructions but END retire in a unit; the last one is STORE, shortly before the end.
    assert (measurement.retired[:-1] > 0).all()
    assert measurement.retired[:-1].max() == measurement.retired[-2] <= measurement.cycles
    assert abs(measurement.simulated - measurement.cycles) < 10
    assert layer_cycles(case.program.meta["layers"], measurement.retired, measurement.cycles) == [measurement.cycles]


@pytest.mark.parametrize(("listing", "code", "unit", "index"), FAULTS)
def test_faults_are_those_of_the_instruction_simulator(
    listing: list[Instruction] | bytes, code: str, unit: Unit, index: int
):
    good, bad = Convolution(TINY), listing if isinstance(listing, bytes) else encode_program(listing)
    with Accelerator(TINY, with_code(image_of(good), bad), bad) as accelerator:
        with pytest.raises(HardwareFault) as caught:
            accelerator.run(watchdog=2000, max_cycles=100_000)
        fault = caught.value
        assert (fault.code, fault.unit, fault.index) == (code, unit, index)
        recover(accelerator, good)


def recover(accelerator: Accelerator, good: Convolution) -> None:
    """After a reset, a good program in the same memory gives the right output."""
    accelerator.reset()
    accelerator.image = with_code(accelerator.image, good.program.code)
    finish(accelerator, good)


def with_code(image: Image, code: bytes) -> Image:
    """The same memory with another program in region CODE."""
    image = Image(image.data, image.origin, image.bases, {**image.limits, Region.CODE: len(code)})
    image.region(Region.CODE)[:] = np.frombuffer(code, np.uint8)
    return image


def test_watchdog_names_the_missing_token():
    bad = Convolution(TINY, code=encode_program(changed(11, wait=mask(Unit.EXECUTE, Unit.LOAD_W, Unit.LOAD_A))))
    with Accelerator(TINY, image_of(bad), bad.program.code) as accelerator:
        with pytest.raises(HardwareFault, match="SFU waits for a token from LOAD_A") as caught:
            accelerator.run(watchdog=2000, max_cycles=100_000)
        assert caught.value.detail == mask(Unit.LOAD_A)
        recover(accelerator, Convolution(TINY))


@pytest.mark.parametrize(
    ("region", "code", "unit", "index"),
    [
        (Region.INPUT, "AXI_READ", Unit.LOAD_A, 4),
        (Region.WEIGHTS, "AXI_READ", Unit.LOAD_W, 0),
        (Region.CODE, "AXI_READ", Unit.CONTROL, None),
        (Region.OUTPUT, "AXI_WRITE", Unit.STORE, 13),
    ],
)
@pytest.mark.parametrize("stall", [0, 0.5])
def test_memory_errors(region: Region, code: str, unit: Unit, index: int | None, stall: float):
    case = Convolution(TINY)
    image = image_of(case)
    error = (image.bases[region], image.bases[region] + image.limits[region])
    with Accelerator(TINY, image, case.program.code, MemoryModel(stall=stall, error=error)) as accelerator:
        for _ in range(2):
            with pytest.raises(HardwareFault) as caught:
                accelerator.run(watchdog=5000, max_cycles=100_000)
            assert (caught.value.code, caught.value.unit) == (code, unit)
            assert index in (None, caught.value.index)
            accelerator.reset()


def test_code_must_lie_at_a_multiple_of_the_beat():
    case = Convolution(TINY)
    image = image_of(case)
    moved = Image(image.data, image.origin, {**image.bases, Region.CODE: image.bases[Region.CODE] + 4}, image.limits)
    with Accelerator(TINY, moved, case.program.code) as accelerator:
        with pytest.raises(HardwareFault) as caught:
            accelerator.run()
        assert (caught.value.code, caught.value.unit, caught.value.index) == ("REGION_RANGE", Unit.CONTROL, 0)


def test_token_overflow():
    load = make("LOAD.W", region=Region.WEIGHTS, offset=0, sram=0, words=1, target=0, signal=mask(Unit.STORE))
    bad = Convolution(TINY, code=encode_program([load] * 16 + [make("END")]))
    with Accelerator(TINY, image_of(bad), bad.program.code) as accelerator:
        with pytest.raises(HardwareFault) as caught:
            accelerator.run()
        assert (caught.value.code, caught.value.unit, caught.value.index) == ("TOKEN_OVERFLOW", Unit.LOAD_W, 15)


def test_waves(tmp_path: Path):
    case = Convolution(TINY)
    with Accelerator(TINY, image_of(case), case.program.code, waves=tmp_path / "dump.fst") as accelerator:
        finish(accelerator, case)
    assert (tmp_path / "dump.fst").stat().st_size > 1000
