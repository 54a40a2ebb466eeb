"""Tokens: enough (the simulator lets units overtake each other at random), few, and never too many at once."""

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from systolith.compiler.compile import compile_graph, compile_levels
from systolith.compiler.plan import plan_graph
from systolith.compiler.schedule import schedule
from systolith.compiler.sync import synchronize

from .graphs import CONFIGS, conv_graph, random_graph, reference, run


@pytest.mark.parametrize("token_bits", [2, 3, 8])
@pytest.mark.parametrize("queue_depth", [2, 5, 64])
def test_any_order_the_tokens_allow_is_right(token_bits, queue_depth):
    config = replace(CONFIGS["tiny4"], token_bits=token_bits, queue_depth=queue_depth)
    rng = np.random.default_rng(token_bits + queue_depth)
    graph = random_graph(rng, depth=2, channels=16, size=10)
    program = compile_graph(graph, config)
    x = rng.integers(-128, 128, graph.values["x"].dims).astype(np.int8)
    expected = reference(graph, x)
    for seed in range(8):
        assert (run(program, config, x, seed) == expected).all(), seed


def test_a_token_is_given_for_each_one_taken():
    compiled = compile_levels(random_graph(np.random.default_rng(8), depth=3), CONFIGS["tiny4"])
    tokens = synchronize(compiled.steps, CONFIGS["tiny4"])
    units = [i.unit for i in compiled.instructions if i.form.group is None and i.form.name != "END"]
    taken = Counter((giver, int(units[i])) for i, givers in enumerate(tokens.wait) for giver in givers)
    given = Counter((int(units[i]), taker) for i, takers in enumerate(tokens.signal) for taker in takers)
    assert given == taken


def test_weights_kept_need_one_token():
    """All tiles of a layer use weights loaded once: only the first waits for them."""
    graph = conv_graph(np.random.default_rng(0), (1, 16, 56, 56), [{"out": 16, "kernel": (1, 1)}])
    compiled = compile_levels(graph, CONFIGS["edge16"])
    executes = [i for i in compiled.instructions if i.form.name == "EXECUTE"]
    assert len(executes) > 6
    assert sum(i.wait & 1 for i in executes) == 1


def test_fifty_thousand_steps_take_seconds():
    graph = conv_graph(np.random.default_rng(0), (1, 32, 64, 64), [{"out": 64, "kernel": (3, 3), "pads": (1,) * 4}])
    steps, _ = schedule(plan_graph(graph, CONFIGS["tiny4"]).planned, CONFIGS["tiny4"])
    assert len(steps) > 30_000
    start = time.process_time()
    synchronize(steps, CONFIGS["tiny4"])
    assert time.process_time() - start < 8
