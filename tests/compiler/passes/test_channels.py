"""Lowering: concatenations and selections become addresses, results and true operation counts stay."""

from collections import Counter

import numpy as np
import pytest

from systolith.compiler.ir.graph import Conv, Graph, SfuOp
from systolith.compiler.ir.verify import verify
from systolith.compiler.layout.layout import layout_of, root_of
from systolith.compiler.passes.channels.lower import lower
from systolith.compiler.passes.channels.orders import identity
from systolith.compiler.passes.fuse import fuse
from systolith.sim.golden.golden import run
from tests.support.graph_builder import Network, random_network
from tests.support.hand_graphs import CONFIGS
from tests.support.seeds import each_seed, many

NAMES = ["tiny4", "odd12", "edge16"]


def lowered(graph: Graph, name: str = "tiny4") -> Graph:
    """The graph after lowering, if it computes the same, and only with what the rest of the compiler knows."""
    config = CONFIGS[name]
    after = verify(lower(graph, config))
    rng = np.random.default_rng(0)
    x = {port.name: rng.integers(-128, 128, port.shape).astype(np.int8) for port in graph.inputs}
    expected, found = run(graph, x), run(after, x)
    assert all((found[port.name] == expected[port.name]).all() for port in graph.outputs)
    assert all(isinstance(layer, Conv | SfuOp) for layer in after.layers)
    for value in after.values:
        layout_of(after, value, config.array)
    assert all(root_of(after, port.value) == port.value for port in (*after.inputs, *after.outputs))
    assert sum(layer.macs(after) for layer in after.layers) == sum(layer.macs(graph) for layer in graph.layers)
    return after


def ops(graph: Graph) -> Counter[str]:
    """How many layers of each operator there are."""
    return Counter(layer.op for layer in graph.layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_random_networks(name):
    for seed in each_seed(range(many(100))):
        graph = random_network(seed)
        lowered(graph, name)
        lowered(fuse(graph, CONFIGS[name]), name)


def test_parts_are_written_where_they_belong():
    net = Network((1, 8, 5, 5))
    a, b, c = net.conv(net.x, 8, (1, 1)), net.pool(net.conv(net.x, 4, (1, 1))), net.depthwise(net.x, pads=(1, 1, 1, 1))
    after = lowered(net.graph(net.conv(net.concat(a, b, c), 4)))
    assert ops(after) == {"Conv": 4, "Pool": 1}
    assert [layout_of(after, name, 4).first for name in (a, b, c)] == [0, 2 * 25, 3 * 25]


def test_unaligned_parts_get_padding_and_the_reader_zero_weights():
    net = Network((1, 8, 5, 5))
    a, b = net.conv(net.x, 6, (1, 1)), net.conv(net.x, 7, (1, 1))
    after = lowered(net.graph(net.conv(net.concat(a, b), 5)))
    assert ops(after) == {"Conv": 3}
    assert after.values[a].dims[1] == 8 and after.values[b].dims[1] == 7
    last = after.layers[2]
    assert isinstance(last, Conv) and last.weights.shape[1] == 15 and not last.weights[:, 6:8].any()


def test_unaligned_outputs_are_put_together():
    net = Network((1, 8, 5, 5))
    after = lowered(net.graph(net.concat(net.conv(net.x, 6), net.conv(net.x, 7))))
    assert ops(after) == {"Conv": 2, "Select": 1}


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_other_axes_need_no_alignment(axis):
    net = Network((1, 8, 5, 5))
    after = lowered(net.graph(net.concat(net.conv(net.x, 6), net.conv(net.x, 6), axis=axis)))
    assert ops(after) == {"Conv": 2}


def test_a_part_with_another_place_is_copied():
    net = Network((1, 8, 5, 5))
    a, b = net.conv(net.x, 4, (1, 1)), net.conv(net.x, 8, (1, 1))
    after = lowered(net.graph(net.concat(a, b), net.concat(b, a), net.concat(a, a), net.concat(net.x, b)))
    assert ops(after) == {"Conv": 2, "Copy": 6}


def test_dense_blocks_nest():
    """Flat: every concatenation begins with the one before."""
    net = Network((1, 8, 5, 5))
    parts, whole = [net.conv(net.x, 8)], None
    for _ in range(4):
        parts.append(net.conv(whole or parts[0], 4, pads=(1, 1, 1, 1)))
        whole = net.concat(*parts)
    assert whole
    after = lowered(net.graph(net.conv(whole, 4)))
    assert ops(after) == {"Conv": 6}
    assert {root_of(after, part) for part in parts} == {whole}


def test_aligned_ranges_are_views():
    net = Network((1, 8, 5, 5))
    x = net.conv(net.x, 12)
    halves = net.select(x, range(4)), net.select(x, range(4, 12))
    after = lowered(net.graph(net.table(halves[0]), net.pool(halves[1], kernel=(2, 2))))
    assert ops(after) == {"Conv": 1, "Tanh": 1, "Pool": 1}
    assert layout_of(after, halves[1], 4).first == 9


def test_the_maker_of_a_split_aligns_it():
    net = Network((1, 8, 5, 5))
    x = net.conv(net.x, 10)
    after = lowered(net.graph(net.table(net.select(x, range(5))), net.table(net.select(x, range(5, 10)))))
    assert ops(after)["Tanh"] == 2 and after.values[x].dims[1] == 13


def test_a_shuffle_before_a_convolution_costs_nothing():
    net = Network((1, 12, 5, 5))
    after = lowered(net.graph(net.conv(net.depthwise(net.shuffle(net.x, 3)), 8)))
    assert ops(after) == {"Conv": 2}
    assert [layer.groups for layer in after.layers if isinstance(layer, Conv)] == [12, 1]


def test_a_shuffle_between_groups_goes_into_the_first():
    net = Network((1, 12, 5, 5))
    shuffled = net.shuffle(net.conv(net.x, 24, (1, 1), groups=3), 3)
    after = lowered(net.graph(net.conv(net.depthwise(shuffled, pads=(1, 1, 1, 1)), 12, (1, 1), groups=3)))
    assert ops(after) == {"Conv": 3}
    assert [layer.groups for layer in after.layers if isinstance(layer, Conv)] == [1, 24, 3]


def test_a_channel_selected_twice_needs_a_convolution():
    net = Network((1, 8, 5, 5))
    after = lowered(net.graph(net.conv(net.select(net.x, [3, 3, 1, 0]), 4)))
    assert ops(after) == {"Select": 1, "Conv": 1}
    assert after.layers[0].macs(after) == 0


def test_selected_channels_do_not_drag_others_along():
    """A few channels of many are brought together once, before the layers that would work on all."""
    net = Network((1, 64, 5, 5))
    few = net.select(net.x, range(0, 64, 8))
    after = lowered(net.graph(net.depthwise(few), net.table(few)))
    assert ops(after) == {"Select": 1, "Conv": 1, "Tanh": 1}
    assert {after.values[layer.output].dims[1] for layer in after.layers} == {8}


def test_both_operands_have_the_same_order():
    net = Network((1, 8, 5, 5))
    shuffled = net.shuffle(net.conv(net.x, 8), 2)
    after = lowered(net.graph(net.conv(net.add(shuffled, net.conv(net.x, 8)), 4)))
    assert ops(after) == {"Conv": 3, "Add": 1}
    net = Network((1, 8, 5, 5))
    shuffled, scale = net.shuffle(net.x, 2), net.pool(net.x, "average", kernel=(5, 5))
    after = lowered(net.graph(net.conv(net.multiply(shuffled, scale), 4)))
    assert ops(after) == {"Pool": 1, "Select": 1, "Mul": 1, "Conv": 1}
    assert after.values[after.layers[1].output].dims == (1, 8, 1, 1)


def test_a_selection_is_exact():
    """Every int8, whatever the zero point."""
    net = Network((1, 256, 1, 256))
    net.values[net.x] = type(net.values[net.x])(net.x, (1, 256, 1, 256), 1.0, -128)
    after = lowered(net.graph(net.select(net.x, identity(256)[::-1])))
    assert ops(after) == {"Select": 1}


def test_parts_with_gaps_are_put_together_for_groups():
    """One selection, so that what follows keeps its groups."""
    net = Network((1, 8, 5, 5))
    x = net.concat(net.conv(net.x, 22, (1, 1)), net.conv(net.x, 22, (1, 1)))
    for _ in range(2):
        x = net.add(net.conv(x, 44, (1, 1), groups=4), x)
    after = lowered(net.graph(x))
    assert ops(after) == {"Conv": 4, "Add": 2, "Select": 1}
    assert [layer.groups for layer in after.layers if layer.op == "Conv" and isinstance(layer, Conv)] == [1, 1, 4, 4]


def test_groups_or_zeros_by_what_is_smaller():
    """After a shuffle, zeros between few groups cost less than a selection, between many more."""
    for groups, expected in ((2, {"Conv": 1}), (8, {"Conv": 1, "Select": 1})):
        net = Network((1, 32, 5, 5))
        x = net.conv(net.shuffle(net.x, 2), 16 * groups, (1, 1), groups=groups)
        assert ops(lowered(net.graph(x))) == expected
