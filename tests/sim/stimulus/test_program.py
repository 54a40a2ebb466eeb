"""Random programs: one result in every order that tokens allow; a token or a `drain` too few shows."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from systolith import PRESETS, Config
from systolith.isa import Region, Unit, encode_program
from systolith.sim.isa.simulator import simulate
from systolith.sim.stimulus.program import RandomProgram, random_program
from tests.support.seeds import each_seed, many

TINY = PRESETS["tiny4"]
CONFIGS = [TINY, replace(TINY, name="dw9", dw_taps=9, dw_depth=64, token_bits=2, queue_depth=2),
           replace(TINY, name="n12", array=12, sfu_lanes=3, act_depth=96, act_banks=3, weight_depth=100, param_depth=3,
                   acc_depth=16, dw_taps=1, dw_depth=8)]  # fmt: skip


def result(random: RandomProgram, config: Config, seed: int | None, code: bytes | None = None) -> np.ndarray:
    image = random.image(1)
    image.region(Region.CODE)[:] = np.frombuffer(code or random.program.code, np.uint8)
    simulate(code or random.program.code, config, image, seed)
    return image.region(Region.OUTPUT)


@pytest.mark.slow
def test_small_memories_are_drawn_for():
    """Rows in memory, with what lies between them, fit a small INPUT region."""
    small = replace(TINY, name="small", act_depth=32, act_banks=1)
    for seed in each_seed(range(many(200))):
        random_program(np.random.default_rng(seed), small, 40, ("LOAD.A",))


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_every_order_gives_the_same(config: Config):
    met: Counter[str] = Counter()
    for seed in each_seed(range(many(30))):
        random = random_program(np.random.default_rng(seed), config)
        first = result(random, config, None)
        assert all(np.array_equal(result(random, config, order), first) for order in (1, 2)), f"seed {seed}"
        met.update(i.form.name for i in random.listing)
        met["drain"] += sum(i.values.get("drain", 0) for i in random.listing)
    assert all(met[name] > 50 for name in ("LOAD.W", "LOAD.A", "EXECUTE", "SFU", "STORE", "drain"))
    assert met["FENCE"]
    assert (met["DEPTHWISE"] > 50) == bool(config.dw_taps)


def test_a_missing_drain_shows():
    """Without `drain`, wherever one was needed, most programs give something else."""
    different = 0
    for seed in range(20):
        random = random_program(np.random.default_rng(seed), TINY, kinds=("SFU",))
        listing = [replace(i, values={**i.values, "drain": 0}) if i.unit == Unit.SFU and "drain" in i.values else i
                   for i in random.listing]  # fmt: skip
        code = encode_program(listing)
        different += not np.array_equal(result(random, TINY, None, code), result(random, TINY, None))
    assert different > 10


def test_a_missing_token_shows():
    """Without the tokens between two units, some order gives something else (or the program hangs)."""
    for giver, taker in ((Unit.EXECUTE, Unit.SFU), (Unit.SFU, Unit.STORE), (Unit.LOAD_A, Unit.SFU)):
        different = 0
        for seed in range(12):
            random = random_program(np.random.default_rng(seed), TINY)
            listing = [replace(i, signal=i.signal & ~(1 << taker) if i.unit == giver else i.signal,
                               wait=i.wait & ~(1 << giver) if i.unit == taker else i.wait)
                       for i in random.listing]  # fmt: skip
            code = encode_program(listing)
            different += not np.array_equal(result(random, TINY, seed, code), result(random, TINY, None))
        assert different > 0, (giver, taker)
