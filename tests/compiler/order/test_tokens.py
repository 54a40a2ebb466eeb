"""Tokens: enough (the simulator lets units overtake each other at random), few, and never too many at once."""

import time
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from systolith.compiler.check.accesses import touched_cells
from systolith.compiler.order.access import STAGE_WEIGHTS, accesses
from systolith.compiler.order.tokens import synchronize
from systolith.compiler.pipeline import compile_graph, compile_levels
from systolith.compiler.plan.plan import plan_graph
from systolith.compiler.schedule.layer import schedule
from systolith.errors import UnsupportedError
from systolith.isa import Opcode, Region
from tests.support.against_golden import agrees
from tests.support.graph_builder import Network, random_network
from tests.support.hand_graphs import CONFIGS, conv_graph, random_graph, reference, run
from tests.support.seeds import each_seed, many


@pytest.mark.parametrize("token_bits", [2, 3, 8])
@pytest.mark.parametrize("queue_depth", [2, 5, 64])
def test_any_order_the_tokens_allow_is_right(token_bits, queue_depth):
    config = replace(CONFIGS["tiny4"], token_bits=token_bits, queue_depth=queue_depth)
    rng = np.random.default_rng(token_bits + queue_depth)
    graph = random_graph(rng, depth=2, channels=16, size=10)
    program = compile_graph(graph, config)
    x = rng.integers(-128, 128, graph.values["x"].dims).astype(np.int8)
    expected = reference(graph, x)
    for seed in each_seed(range(many(8))):
        assert (run(program, config, x, seed) == expected).all(), seed


def thinned(height: int, width: int):
    """A 1 x 1 convolution with strides, which loads every other word of what tiles of the layer before stored."""
    net = Network((1, 4, height, width))
    return net.graph(net.conv(net.conv(net.x, 8, pads=(1, 1, 1, 1)), 4, (1, 1), stride=(2, 2)))


def test_words_apart_in_memory():
    for acc_depth, act_depth, height, width in ((8, 64, 4, 9), (16, 64, 4, 16), (16, 128, 12, 12)):
        config = replace(CONFIGS["tiny4"], acc_depth=acc_depth, act_depth=act_depth)
        compiled = agrees(thinned(height, width), config)
        steps = [i["step"] for i in compiled.instructions if i.form.name == "CONFIG.LOAD_A.window"]
        assert max(steps) == 8 and compiled.program.scratch_bytes


NAMES = {
    "activation SRAM": "activations",
    "weight SRAM": STAGE_WEIGHTS,
    "parameter SRAM": "parameters",
    "accumulators": "accumulators",
    "depthwise accumulators": "depthwise accumulators",
}
"""The compiler's names of the checker's memories."""


@pytest.mark.slow
def test_accesses_are_all_that_the_checker_finds():
    """What conflicts are found from covers every cell that an instruction touches, memory included."""
    config = replace(CONFIGS["tiny4"], acc_depth=16, act_depth=64, dw_taps=3, dw_depth=16)
    cells, apart = 0, 0
    graphs = [random_network(seed, depth=6, channels=20, size=14) for seed in range(500, 500 + many(8))]
    for graph in (*graphs, thinned(4, 16), thinned(5, 21)):
        try:
            compiled = compile_levels(graph, config)
        except UnsupportedError:
            continue
        regions = compiled.program.region_bytes()
        kept = zip(compiled.instructions, touched_cells(compiled.instructions, config, regions), strict=True)
        found = [item for instruction, item in kept if instruction.form.opcode not in (Opcode.CONFIG, Opcode.END)]
        for step, items in zip(compiled.steps, found, strict=True):
            covered: dict = defaultdict(set)
            for access in accesses(step, config):
                view = access.view(np.arange(access.end))
                covered[access.memory, access.write] |= set(view.ravel().tolist())
            for item in items:
                if item.memory not in (Region.INPUT, Region.WEIGHTS):  # Nothing writes there.
                    mine = covered[NAMES.get(str(item.memory), item.memory), item.write]
                    assert set(item.cells.tolist()) <= mine, step
                    cells += len(item.cells)
            if step.name == "LOAD.A" and step.fields["region"] == Region.SCRATCH:
                apart += step.constants["CONFIG.LOAD_A.window"]["step"] > config.array
    assert cells > 10_000 and apart, (cells, apart)


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


@pytest.mark.slow
def test_fifty_thousand_steps_take_seconds():
    graph = conv_graph(np.random.default_rng(0), (1, 32, 64, 64), [{"out": 64, "kernel": (3, 3), "pads": (1,) * 4}])
    steps, _ = schedule(plan_graph(graph, CONFIGS["tiny4"]).planned, CONFIGS["tiny4"])
    assert len(steps) > 30_000
    start = time.process_time()
    synchronize(steps, CONFIGS["tiny4"])
    assert time.process_time() - start < 8
