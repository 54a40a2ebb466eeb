"""Random broken programs on the RTL: a fault that the rule allows, what was stored before, and a good program after."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from systolith import PRESETS, Config
from systolith.isa import Error, Region, Unit
from systolith.sim.campaign import CONFIGS
from systolith.sim.compare import faults as fault_check
from systolith.sim.compare.faults import compare_fault, compare_orders, expect
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_model import MemoryModel
from systolith.sim.rtl import driver
from systolith.sim.stimulus.broken_program import BrokenProgram, broken_program
from systolith.sim.stimulus.program import random_program
from tests.support.seeds import each_seed, many

TINY = PRESETS["tiny4"]
DEPTHWISE = next(config for config in CONFIGS if config.array == 4 and config.dw_taps)
TIGHT = next(config for config in CONFIGS if config.queue_depth == 2 and config.array == 4)


def draw(seed: int, config: Config) -> BrokenProgram:
    return broken_program(np.random.default_rng(seed), config)


def differs(seed: int, config: Config) -> str:
    rng = np.random.default_rng(seed)
    broken, after = broken_program(rng, config), random_program(rng, config, length=8)
    memory = MemoryModel(
        read_latency=int(rng.integers(1, 80)),
        write_latency=int(rng.integers(1, 40)),
        stall=float(rng.choice([0, 0, 0.2, 0.6])),
        outstanding=int(rng.choice([1, 4, 64])),
        seed=seed,
    )
    return compare_fault(broken, after, config, memory, seed)


@pytest.mark.rtl
@pytest.mark.parametrize(("config", "count"), [(TINY, 300), (DEPTHWISE, 60), (TIGHT, 60)], ids=lambda c: str(c)[:30])
def test_rtl_reports_what_the_rule_allows(config: Config, count: int):
    for seed in each_seed(range(many(count))):
        assert differs(seed, config) == "", f"seed {seed}"


@pytest.mark.slow
def test_any_order_of_units_finds_the_same_faults():
    for seed in each_seed(range(1, 1 + many(79))):
        assert compare_orders(draw(seed, DEPTHWISE), DEPTHWISE, seed) == "", f"seed {seed}"


@pytest.mark.slow
def test_programs_are_broken_in_every_way():
    kinds, sizes = Counter(), Counter()
    for seed in range(300):
        broken = draw(seed, TINY)
        faults = expect(broken, TINY, broken.random.image(seed)).faults
        kinds.update((code, unit) for code, unit, _, _ in faults)
        sizes[len(faults)] += 1
    codes = {error.name for error in Error} - {"NONE", "AXI_READ", "AXI_WRITE"}
    assert {code for code, _ in kinds} == codes
    assert {unit for _, unit in kinds} == set(Unit) - {Unit.DEPTHWISE}
    assert {("SRAM_RANGE", Unit.EXECUTE), ("REGION_RANGE", Unit.STORE), ("OPERAND", Unit.SFU)} <= kinds.keys()
    assert sizes[0] and sizes[1] and sizes[2] and sizes[3]


def several(count: int) -> tuple[int, BrokenProgram]:
    """A program of which any of `count` faults may be reported, with its seed."""
    programs = ((seed, draw(seed, TINY)) for seed in range(300))
    return next((seed, broken) for seed, broken in programs
                if len(expect(broken, TINY, broken.random.image(seed)).faults) == count)  # fmt: skip


@pytest.mark.rtl
@pytest.mark.parametrize("count", [0, 1])
def test_another_fault_is_seen(count: int, monkeypatch: pytest.MonkeyPatch):
    """A wrong index, and a fault of a program that has none, are noticed."""
    seed, broken = several(count)
    good = random_program(np.random.default_rng(seed), TINY, length=0)
    real = driver.fault

    def shifted(error: int, instruction: int, code: bytes) -> HardwareFault:
        return real(error, instruction + 1, code)

    class Failing(fault_check.Accelerator):
        def run(self, watchdog=0, max_cycles=0):
            super().run(watchdog)
            raise HardwareFault("OPERAND", Unit.SFU, 3)

    if count:
        monkeypatch.setattr(driver, "fault", shifted)
    else:
        monkeypatch.setattr(fault_check, "Accelerator", Failing)
    assert "the RTL reports" in compare_fault(broken, good, TINY, MemoryModel(), seed)


@pytest.mark.rtl
@pytest.mark.parametrize(("region", "message"), [(Region.OUTPUT, "bytes of OUTPUT"), (Region.WEIGHTS, "wrote at")])
def test_a_wrong_byte_is_seen(region: Region, message: str, monkeypatch: pytest.MonkeyPatch):
    class Scribbling(fault_check.Accelerator):
        def reset(self):
            super().reset()
            self.image.region(region)[-1] ^= 0x55

    monkeypatch.setattr(fault_check, "Accelerator", Scribbling)
    seed, broken = several(1)
    broken = replace(broken, loose=frozenset())
    good = random_program(np.random.default_rng(seed), TINY, length=0)
    assert message in compare_fault(broken, good, TINY, MemoryModel(), seed)


@pytest.mark.rtl
def test_what_is_left_of_a_fault_is_seen(monkeypatch: pytest.MonkeyPatch):
    """A good program that ends otherwise behind a broken one."""

    class Forgetful(fault_check.Accelerator):
        def run(self, watchdog=0, max_cycles=0):
            measured = super().run(watchdog)
            self.image.region(Region.OUTPUT)[0] ^= 1
            return measured

    monkeypatch.setattr(fault_check, "Accelerator", Forgetful)
    seed, broken = several(1)
    good = random_program(np.random.default_rng(seed), TINY, length=0)
    assert compare_fault(broken, good, TINY, MemoryModel(), seed) == "1 bytes differ after a good program behind it"
