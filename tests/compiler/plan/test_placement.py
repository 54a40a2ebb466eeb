"""Activation SRAM: who lives how long, who may take whose place, and that packing is right and tight."""

import numpy as np
import pytest

from systolith.compiler.ir.graph import Graph, Inside, Value
from systolith.compiler.pipeline import compile_levels, prepare
from systolith.compiler.plan.liveness import Lifetime, lifetimes
from systolith.compiler.plan.packing import fit
from systolith.compiler.plan.placement import place_tensors
from systolith.config import PRESETS
from systolith.isa import Region
from tests.support.graph_builder import Network, random_network
from tests.support.hand_graphs import CONFIGS
from tests.support.seeds import each_seed, many, seeds

EDGE = PRESETS["edge16"]


def life(name: str, words: int, first: int, last: int, over=(), rivals=(), reads: int = 1) -> Lifetime:
    return Lifetime(name, words, first, last, reads, frozenset(over), frozenset(rivals))


def overlaps(lives, starts) -> list[tuple[str, str]]:
    """Pairs that live at the same time and share words, but for those that may be written in place."""
    found = []
    for a in lives:
        for b in lives:
            if a.name < b.name and {a.name, b.name} <= starts.keys() and a.meets(b):
                apart = starts[a.name] + a.words <= starts[b.name] or starts[b.name] + b.words <= starts[a.name]
                in_place = starts[a.name] == starts[b.name] and (a.name in b.over or b.name in a.over)
                if not apart and not in_place:
                    found.append((a.name, b.name))
    return found


# Lifetimes


def test_views_prolong_a_life_and_parts_begin_it():
    net = Network((1, 8, 6, 6))
    a = net.conv(net.x, 8, (1, 1))
    b = net.conv(net.x, 8, (1, 1))
    whole = net.concat(a, b)
    half = net.select(whole, range(8, 16))
    c = net.conv(net.x, 8, (1, 1))
    graph = prepare(net.graph(net.multiply(c, half)), CONFIGS["tiny4"])
    lives = lifetimes(graph, 4)
    assert (lives[whole].first, lives[whole].last, lives[whole].reads, lives[whole].words) == (0, 3, 1, 4 * 36)
    assert set(lives) == {whole, c, graph.outputs[0].value}


def test_what_may_be_written_in_place():
    net = Network((1, 8, 6, 6))
    a, b = net.table(net.x), net.pool(net.x, kernel=(1, 1))
    added = net.add(a, b)
    same = net.table(added)
    shifted = net.pool(same, kernel=(3, 3), pads=(1, 1, 1, 1))
    lives = lifetimes(net.graph(shifted), 4)
    assert lives[a].over == set()  # a network input is in memory
    assert lives[added].over == {a, b}
    assert lives[same].over == {added}
    assert lives[shifted].over == set()


def test_an_operand_that_the_convolution_reads_stays():
    for reader, expected in ((False, True), (True, False)):
        net = Network((1, 8, 6, 6))
        x, y = net.conv(net.x, 8, (1, 1)), net.conv(net.x, 8, (1, 1))
        total = net.add(net.conv(x if reader else y, 8, (1, 1)), x)
        graph = prepare(net.graph(net.conv(total, 4)), CONFIGS["tiny4"])
        lives = lifetimes(graph, 4)
        assert (x in lives[total].over) == expected


def test_a_tensor_that_is_read_again_stays():
    net = Network((1, 8, 6, 6))
    x = net.conv(net.x, 8, (1, 1))
    y = net.table(x)
    lives = lifetimes(net.graph(net.add(y, x)), 4)
    assert lives[y].over == set()


def test_a_tensor_with_a_view_in_the_same_layer_stays():
    """A pixel of it is the second operand: it must not be overwritten before the last position."""
    net = Network((1, 8, 6, 6))
    x = net.table(net.x)
    net.values["pixel"] = Value("pixel", (1, 8, 1, 1), 0.5, 0, Inside(x, top=3, left=2))
    y = net.multiply(x, "pixel")
    assert lifetimes(net.graph(y), 4)[y].over == set()


# Packing


@seeds(20)
def test_random_lives_never_overlap(seed):
    rng = np.random.default_rng(seed)
    lives: list[Lifetime] = []
    for index in range(40):
        first = int(rng.integers(0, 30))
        over = [other.name for other in lives if other.last == first and rng.random() < 0.5]
        words = lives[int(over[0][1:])].words if over else int(rng.integers(1, 200))
        over = [name for name in over if lives[int(name[1:])].words == words]
        rivals = [other.name for other in lives if rng.random() < 0.1]
        lives.append(life(f"t{index}", words, first, first + int(rng.integers(0, 8)), over, rivals))
    starts = fit(lives, 512, 4)
    assert not overlaps(lives, starts)
    assert all(0 <= starts[item.name] <= 512 - item.words for item in lives if item.name in starts)
    room = [sum(item.words for item in lives if item.first <= index <= item.last) for index in range(40)]
    if max(room) <= 256:
        assert len(starts) == len(lives)


def test_rivals_get_other_banks():
    for rival, start in (("a", 312), ("b", 100)):
        lives = [life("a", 100, 0, 3), life("b", 100, 0, 3), life("c", 100, 0, 3, rivals={rival})]
        assert fit(lives, 512, 4) == {"a": 0, "b": 412, "c": start}


def test_a_tighter_order_is_found():
    """In the order of layers, at the ends of the SRAM, the long one finds no room; by size all have."""
    lives = [life("a", 40, 0, 1), life("b", 20, 0, 9), life("c", 40, 0, 1), life("d", 80, 2, 5)]
    starts = fit(lives, 100, 1)
    assert set(starts) == {"a", "b", "c", "d"} and not overlaps(lives, starts)


def test_in_place_when_nothing_else_fits():
    lives = [life("a", 80, 0, 1), life("b", 80, 1, 2, over={"a"}), life("c", 80, 2, 3, over={"b"})]
    assert fit(lives, 100, 1) == {"a": 0, "b": 0, "c": 0}
    assert len(fit([life("a", 80, 0, 1), life("b", 80, 1, 2)], 100, 1)) == 1
    middle = [life("a", 30, 0, 0), life("b", 10, 0, 0), life("c", 60, 0, 1), life("d", 60, 1, 2, over={"c"})]
    assert fit(middle, 100, 1) == {"a": 0, "b": 90, "c": 30, "d": 30}


def test_what_saves_most_traffic_stays():
    lives = [life("long", 60, 0, 9), *(life(f"short{i}", 60, i, i + 1, reads=3) for i in range(0, 9, 2))]
    assert "long" not in fit(lives, 100, 1)
    assert set(fit([life("a", 20, 0, 1), life("b", 20, 0, 1), life("c", 90, 0, 1)], 100, 1)) == {"c"}


# Placement


@pytest.mark.parametrize("name", ["tiny4", "odd12"])
def test_random_networks_are_placed(name):
    config = CONFIGS[name]
    for seed in each_seed(range(many(40))):
        graph = prepare(random_network(seed), config)
        lives = lifetimes(graph, config.array)
        memory = place_tensors(graph, lives, config, frozenset())
        resident = {root: place.word for root, place in memory.places.items() if place.sram is not None}
        assert not overlaps(lives.values(), resident)
        for index, (start, size) in enumerate(memory.holes):
            alive = [item for item in lives.values() if item.name in resident and item.first <= index <= item.last]
            words = {word for item in alive for word in range(resident[item.name], resident[item.name] + item.words)}
            assert words.isdisjoint(range(start, start + size)) and len(words) == memory.taken[index]
        for port in (*graph.inputs, *graph.outputs):
            assert memory.places[port.value].home in (Region.INPUT, Region.OUTPUT)


def test_spilled_tensors_share_scratch_memory():
    net = Network((1, 8, 6, 6))
    x = net.x
    for _ in range(4):
        x = net.conv(x, 8, (1, 1))
    graph = net.graph(x)
    lives = lifetimes(graph, 4)
    memory = place_tensors(graph, lives, CONFIGS["tiny4"], frozenset(graph.values))
    assert all(place.sram is None for place in memory.places.values())
    assert {place.region for place in memory.places.values()} == {Region.INPUT, Region.OUTPUT, Region.SCRATCH}
    assert memory.scratch_bytes == 2 * 320


def mobilenet(size: int, width: int) -> Graph:
    """MobileNetV1, `width` channels in its first layer."""
    net = Network((1, 3, size, size))
    x = net.conv(net.x, width, stride=(2, 2), pads=(0, 0, 1, 1))
    for factor, stride in [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1)]:
        pads = (1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1)
        x = net.conv(net.depthwise(x, stride=(stride, stride), pads=pads), factor * width, (1, 1))
    return net.graph(net.conv(net.pool(x, "average", kernel=(size // 32, size // 32)), 2, (1, 1)))


def resnet8() -> Graph:
    net = Network((1, 3, 32, 32))
    x = net.conv(net.x, 16, pads=(1, 1, 1, 1))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        pads = (1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1)
        y = net.conv(x, channels, stride=(stride, stride), pads=pads)
        y = net.conv(y, channels, pads=(1, 1, 1, 1))
        x = net.add(y, x if stride == 1 else net.conv(x, channels, (1, 1), stride=(stride, stride)))
    return net.graph(net.conv(net.pool(x, "average", kernel=(8, 8)), 10, (1, 1)))


def ds_cnn() -> Graph:
    net = Network((1, 1, 49, 10))
    x = net.conv(net.x, 64, (10, 4), stride=(2, 2), pads=(4, 1, 5, 1))
    for _ in range(4):
        x = net.conv(net.depthwise(x, pads=(1, 1, 1, 1)), 64, (1, 1))
    return net.graph(net.conv(net.pool(x, "average", kernel=net.values[x].dims[2:]), 12, (1, 1)))


def autoencoder() -> Graph:
    net = Network((1, 640, 1, 1))
    x = net.x
    for channels in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        x = net.conv(x, channels, (1, 1))
    return net.graph(x)


@pytest.mark.parametrize("network", [lambda: mobilenet(96, 8), resnet8, ds_cnn, autoencoder],
                         ids=["mobilenet", "resnet8", "ds_cnn", "autoencoder"])  # fmt: skip
def test_tiny_networks_stay_on_the_chip(network):
    compiled = compile_levels(network(), EDGE)
    assert compiled.program.scratch_bytes == 0
    moved = {Region(i["region"]) for i in compiled.instructions if i.form.name in ("LOAD.A", "STORE")}
    assert moved == {Region.INPUT, Region.OUTPUT}
