"""Interleaved layers: conflicts keep their order, sums stay whole, results are right, and it is worth it."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from systolith.compiler import pipeline as compiling
from systolith.compiler.order.access import accesses
from systolith.compiler.order.conflicts import SUMS, before
from systolith.compiler.order.interleave import gain, interleave
from systolith.compiler.order.order import generated
from systolith.compiler.order.timeline import estimate
from systolith.compiler.plan.plan import plan_graph
from systolith.compiler.schedule.layer import schedule
from systolith.compiler.schedule.step import Step
from systolith.config import Config
from tests.support import topologies
from tests.support.against_golden import ALL, agrees
from tests.support.graph_builder import Network, random_network
from tests.support.hand_graphs import CONFIGS
from tests.support.seeds import each_seed, many, seeds

NAMES = ["tiny4", "odd12", "tiny4_dw3", "tiny4_dw9"]


def steps_of(graph, config: Config) -> list[Step]:
    """The steps of a graph, layer by layer, each with its number among its constants."""
    steps, _ = schedule(plan_graph(compiling.prepare(graph, config), config).planned, config)
    return [replace(step, constants={**step.constants, "number": {"n": n}}) for n, step in enumerate(steps)]


def number(step: Step) -> int:
    return step.constants["number"]["n"]


def histories(steps: list[Step], config: Config) -> dict:
    """For each cell but the sums: its writes, and the reads between them, which may change places."""
    found: dict = defaultdict(lambda: [[]])
    for step in steps:
        for access in accesses(step, config):
            if access.memory not in SUMS:
                for cell in set(access.view(np.arange(access.end)).ravel().tolist()):
                    found[access.memory, cell] += [[number(step)], []] if access.write else []
                    found[access.memory, cell][-1] += [] if access.write else [number(step)]
    return {key: [sorted(part) for part in parts] for key, parts in found.items()}


def sums(steps: list[Step], config: Config) -> dict[int, list[int]]:
    """For each reader of sums: who made them, in order."""
    made: dict = {}
    found = {}
    for step in steps:
        for access in accesses(step, config):
            if access.memory in SUMS and access.write:
                first = not step.fields.get("accumulate")
                made[access.memory, access.start] = [
                    *([] if first else made[access.memory, access.start]),
                    number(step),
                ]
            elif access.memory in SUMS:
                found[number(step)] = list(made[access.memory, access.start])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_conflicting_steps_keep_their_order(name):
    config, same = ALL[name], 0
    for seed in each_seed(range(300, 300 + many(6))):
        plain = steps_of(random_network(seed), config)
        mixed = interleave(plain, config)
        assert sorted(map(number, mixed)) == list(range(len(plain)))
        assert histories(mixed, config) == histories(plain, config)
        assert sums(mixed, config) == sums(plain, config)
        same += [number(step) for step in mixed] == list(range(len(plain)))
    assert not same


def conflict(first: Step, second: Step, config: Config) -> bool:
    """Whether two steps touch the same cell, not of sums, and one writes it."""
    for a in accesses(first, config):
        for b in accesses(second, config):
            if a.memory == b.memory and a.memory not in SUMS and (a.write or b.write):
                cells = np.zeros(max(a.end, b.end), bool)
                a.view(cells)[...] = True
                if b.view(cells).any():
                    return True
    return False


@pytest.mark.slow
def test_no_conflict_may_be_turned_around():
    """What `before` and the comparison of histories are worth: neighbours in conflict are ordered, and it is seen when
    they change places."""
    config = ALL["tiny4_dw3"]
    plain = steps_of(random_network(301), config)
    edges = before(plain, config)
    pairs = [(n - 1, n) for n in range(1, len(plain)) if conflict(plain[n - 1], plain[n], config)]
    assert len(pairs) > 20
    for first, second in pairs:
        assert first in edges[second]
        swapped = [*plain[:first], plain[second], plain[first], *plain[second + 1 :]]
        assert histories(swapped, config) != histories(plain, config)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@seeds(10, first=310, each=5)
def test_interleaved_networks_compute_the_same(name, seed, monkeypatch):
    """Every network interleaved, better or not."""
    monkeypatch.setattr(compiling, "ordered", lambda steps, config: generated(interleave(steps, config), config))
    agrees(random_network(seed), ALL[name], seed)


@pytest.mark.parametrize("name", NAMES)
@seeds(2, first=320)
def test_interleaved_networks_too_large_for_the_chip_compute_the_same(name, seed, monkeypatch):
    monkeypatch.setattr(compiling, "ordered", lambda steps, config: generated(interleave(steps, config), config))
    agrees(random_network(seed, depth=8, channels=40, size=22), ALL[name])


@pytest.mark.slow
@pytest.mark.parametrize("bits, depth", [(2, 2), (2, 64), (8, 2)])
def test_interleaved_networks_with_few_tokens(bits, depth, monkeypatch):
    monkeypatch.setattr(compiling, "ordered", lambda steps, config: generated(interleave(steps, config), config))
    for seed in each_seed(range(330, 330 + many(3))):
        agrees(random_network(seed), replace(ALL["tiny4_dw3"], token_bits=bits, queue_depth=depth), seed)


@pytest.mark.slow
@pytest.mark.parametrize("name, part", [("mobilenet", 0.75), ("ds_cnn", 0.85)])
def test_depthwise_separable_layers_overlap(name, part):
    config = CONFIGS["edge16_dw"]
    compiled = compiling.compile_levels(topologies.TINY[name](), config)
    steps, _ = schedule(compiled.planned, config)
    plain, mixed = (estimate(item.instructions, config).cycles for item in (generated(steps, config), compiled))
    print(f"{name}: {plain} cycles layer by layer, {mixed} interleaved, estimated")
    assert mixed < part * plain
    assert sum(a.layer > b.layer for a, b in zip(compiled.steps, compiled.steps[1:], strict=False)) > 20


def test_one_layer_stays_as_it_is():
    net = Network((1, 4, 4, 4))
    net.layers.clear()
    config = CONFIGS["tiny4"]
    compiled = compiling.compile_levels(net.graph(net.conv(net.x, 8)), config)
    steps, _ = schedule(compiled.planned, config)
    assert gain(steps, config) == 0
    assert compiled.steps == generated(steps, config).steps
