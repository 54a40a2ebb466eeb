"""Fusion: what joins, what does not, and that results stay."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from systolith.compiler.ir.graph import Conv, Graph, SfuOp
from systolith.compiler.ir.verify import verify
from systolith.compiler.passes.fuse import fuse
from systolith.config import PRESETS
from systolith.sim.golden.golden import run
from tests.support.graph_builder import Network, random_network
from tests.support.seeds import each_seed, many

TINY = PRESETS["tiny4"]
DIMS = 1, 6, 8, 8


def fused(graph: Graph) -> Graph:
    """The graph after fusion, if it computes the same."""
    after = verify(fuse(graph, TINY))
    rng = np.random.default_rng(0)
    x = {port.name: rng.integers(-128, 128, port.shape).astype(np.int8) for port in graph.inputs}
    expected, found = run(graph, x), run(after, x)
    assert all((found[name] == expected[name]).all() for name in expected)
    assert set(after.values) >= {name for layer in after.layers for name in (*layer.inputs, layer.output)}
    return after


def only(graph: Graph) -> Conv | SfuOp:
    """The one layer that is left."""
    (layer,) = fused(graph).layers
    assert isinstance(layer, Conv | SfuOp)
    return layer


def test_table_joins_convolution_and_map():
    net = Network(DIMS)
    assert only(net.graph(net.table(net.conv(net.x, 5)))).table is not None
    net = Network(DIMS)
    assert only(net.graph(net.table(net.pool(net.x, kernel=(3, 3))))).table is not None
    net = Network(DIMS)
    assert only(net.graph(net.table(net.table(net.table(net.x))))).table is not None


def test_clip_becomes_a_clamp():
    net = Network(DIMS)
    layer = only(net.graph(net.clip(net.conv(net.x, 5), -20, 30)))
    assert (layer.low, layer.high, layer.table) == (-20, 30, None)
    net = Network(DIMS)
    layer = only(net.graph(net.clip(net.add(net.x, net.conv(net.x, 6, pads=(1, 1, 1, 1))), -20, 30)))
    assert layer.add and (layer.add.low, layer.add.high, layer.table) == (-20, 30, None)


def test_pool_joins_where_windows_are_apart():
    net = Network(DIMS)
    layer = only(net.graph(net.table(net.pool(net.conv(net.x, 5), kernel=(2, 3), stride=(2, 3)))))
    assert isinstance(layer, Conv) and layer.pool and layer.table is not None
    for window in (
        {"kernel": (3, 3), "stride": (2, 2)},
        {"kernel": (2, 2), "stride": (2, 2), "pads": (0, 0, 1, 1)},
        {"kernel": (2, 2), "stride": (2, 2), "dilation": (2, 1)},
        {"kernel": (5, 5), "stride": (5, 5)},  # more than half of the accumulators
    ):
        net = Network(DIMS)
        assert len(fused(net.graph(net.pool(net.conv(net.x, 5), **window))).layers) == 2
    net = Network(DIMS)
    average = net.pool(net.conv(net.x, 5), "average", kernel=(2, 2), stride=(2, 2))
    assert len(fused(net.graph(average)).layers) == 2


@pytest.mark.parametrize("rising", [True, False])
def test_table_before_a_pool(rising):
    net = Network(DIMS)
    pooled = net.pool(net.table(net.conv(net.x, 5), rising), kernel=(2, 2), stride=(2, 2))
    assert len(fused(net.graph(pooled)).layers) == (1 if rising else 2)


@pytest.mark.parametrize("first", [True, False])
def test_addition_joins_the_later_convolution(first):
    net = Network(DIMS)
    a, b = net.conv(net.x, 5), net.conv(net.x, 5)
    after = fused(net.graph(net.add(a, b, table=True) if first else net.add(b, a, table=True)))
    assert [layer.name for layer in after.layers] == [a, b]
    layer = after.layers[1]
    assert isinstance(layer, Conv) and layer.add and layer.add.operand == a and layer.table is not None


def test_additions_that_stay():
    net = Network(DIMS)
    same = net.conv(net.x, 5)
    assert len(fused(net.graph(net.add(same, same))).layers) == 2
    net = Network(DIMS)
    a, b = net.table(net.conv(net.x, 5)), net.table(net.conv(net.x, 5))
    assert Counter(type(layer) for layer in fused(net.graph(net.add(a, b))).layers) == {Conv: 2, SfuOp: 1}
    net = Network(DIMS)
    a, b = net.conv(net.x, 5), net.conv(net.x, 5)
    assert len(fused(net.graph(net.add(a, b), a, b)).layers) == 3
    net = Network(DIMS)
    small = net.conv(net.pool(net.x, kernel=(8, 8)), 6, (1, 1))
    layers = fused(net.graph(net.add(net.x, small))).layers
    assert len(layers) == 3


def test_addition_of_a_broadcast_operand():
    net = Network(DIMS)
    small = net.conv(net.pool(net.x, kernel=(8, 8)), 5, (1, 1))
    layers = fused(net.graph(net.add(net.conv(net.x, 5), small))).layers
    assert len(layers) == 3 and isinstance(layers[2], Conv) and layers[2].add


def test_values_that_others_read_stay():
    net = Network(DIMS)
    made = net.conv(net.x, 5)
    assert len(fused(net.graph(net.table(made), net.table(made))).layers) == 3
    net = Network(DIMS)
    made = net.conv(net.x, 5)
    assert len(fused(net.graph(net.table(made), made)).layers) == 2


def test_copies_vanish():
    net = Network(DIMS)
    layer = only(net.graph(net.copy(net.conv(net.copy(net.copy(net.x)), 5))))
    assert isinstance(layer, Conv) and layer.input == net.x
    net = Network(DIMS)
    assert only(net.graph(net.copy(net.x))).op == "Identity"


@pytest.mark.slow
def test_random_networks():
    kinds: Counter[str] = Counter()
    for seed in each_seed(range(many(300))):
        graph = random_network(seed, depth=15, recent=1 + seed % 3)
        for layer in fused(graph).layers:
            if isinstance(layer, Conv):
                kinds.update(name for name in ("pool", "add", "table") if getattr(layer, name) is not None)
    assert all(kinds[name] >= 5 for name in ("pool", "add", "table")), kinds


def test_a_copy_with_another_zero_point_stays():
    net = Network(DIMS)
    copy = net.copy(net.x)
    net.values[copy] = replace(net.values[copy], zero_point=net.values[net.x].zero_point + 9)
    assert len(fused(net.graph(net.conv(copy, 4))).layers) == 2
