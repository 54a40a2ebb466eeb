"""Random programs on the RTL, with memories fast, slow and stalling: the same bytes as the instruction simulator."""

from dataclasses import replace

import numpy as np
import pytest

from systolith import PRESETS, Config
from systolith.isa import Region, encode_program, make
from systolith.sim.campaign import CONFIGS
from systolith.sim.compare.programs import compare
from systolith.sim.host.memory_model import MemoryModel
from systolith.sim.isa import simulator
from systolith.sim.rtl import native_backend
from systolith.sim.stimulus.program import RandomProgram, random_program
from tests.support.seeds import each_seed, many

pytestmark = pytest.mark.rtl

TINY = PRESETS["tiny4"]
DEPTHWISE = next(config for config in CONFIGS if config.array == 4 and config.dw_taps)


def memory_of(rng: np.random.Generator, seed: int) -> MemoryModel:
    return MemoryModel(
        read_latency=int(rng.integers(1, 80)),
        write_latency=int(rng.integers(1, 40)),
        stall=float(rng.choice([0, 0, 0.2, 0.6])),
        outstanding=int(rng.choice([1, 4, 64])),
        seed=seed,
    )


@pytest.mark.parametrize("config", [TINY, DEPTHWISE], ids=lambda c: c.name)
@pytest.mark.parametrize("kinds", ["all", "SFU", "DEPTHWISE"])
def test_rtl_equals_isa(config: Config, kinds: str):
    if kinds == "DEPTHWISE" and not config.dw_taps:
        pytest.skip("has no depthwise unit")
    chosen = {"SFU": {"kinds": ("SFU", "SFU", "EXECUTE")}, "DEPTHWISE": {"kinds": ("DEPTHWISE", "SFU")}}.get(kinds, {})
    for seed in each_seed(range(many(40))):
        rng = np.random.default_rng(seed)
        different, cycles = compare(random_program(rng, config, **chosen), config, "rtl", memory_of(rng, seed), seed)
        assert (different, cycles > 0) == (0, True), f"seed {seed}: {different} bytes differ"


def chained(drain: int) -> RandomProgram:
    """Two words copied twice, the second time from where the first copy went; nothing in between."""
    random = random_program(np.random.default_rng(3), TINY, length=0)
    ones = dict.fromkeys(("kernel_y", "kernel_x", "stride_y", "stride_x", "dilation_y", "dilation_x"), 1)
    copy = {"memory": 1, "reduce": 0, "second": 0, "operand": 0, "rows": 1, "cols": 2, "param": 0}
    inserted = [
        make("FENCE"),
        make("CONFIG.SFU.output", zero_point=0, clamp_min=-128, clamp_max=127, row_stride=2, col_stride=1, lookup=0),
        make("CONFIG.SFU.input", height=1, width=2, row_stride=2, y0=0, x0=0, pad=0),
        make("CONFIG.SFU.window", **ones),
        make("CONFIG.SFU.operand", row_stride=0, col_step=0, zero_a=0, zero_b=0),
        make("SFU", **copy, source=0, dst=100, drain=0),
        make("SFU", **copy, source=100, dst=200, drain=drain),
        make("FENCE"),
    ]
    end = next(index for index, i in enumerate(random.listing) if i.form.name == "CONFIG.STORE.target")
    listing = [*random.listing[:end], *inserted, *random.listing[end:]]
    unit = np.array([0, np.float32(1).view(np.int32)] * TINY.array * TINY.param_depth, np.int32).tobytes()
    weights = unit + random.program.weights[len(unit) :]
    program = replace(random.program, code=encode_program(listing), weights=weights)
    return RandomProgram(program, random.input, listing)


def test_a_missing_drain_shows_in_hardware():
    """Without `drain` an instruction reads what was there before; the simulator leaves something else in its place."""
    words = {}
    for drain in (0, 1):
        random = chained(drain)
        images = {"isa": random.image(1), "rtl": random.image(1)}
        simulator.simulate(random.program.code, TINY, images["isa"])
        native_backend.simulate(random.program.code, TINY, images["rtl"])
        for backend, image in images.items():
            words[backend, drain] = image.region(Region.OUTPUT).view(np.int8).reshape(-1, TINY.array)
        assert np.array_equal(words["isa", drain], words["rtl", drain]) == bool(drain)
    before = random.input[0, :, 0].T
    assert np.array_equal(words["rtl", 1][200:202], before[:2])
    assert np.array_equal(words["rtl", 0][200:202], before[100:102])
