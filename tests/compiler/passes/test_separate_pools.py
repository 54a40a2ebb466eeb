"""Maxima in two steps: when, what joins what, and that results stay, in the graph and in the program."""

import numpy as np
import pytest

from systolith.compiler.ir.graph import Conv, Graph, SfuOp
from systolith.compiler.ir.verify import verify
from systolith.compiler.passes.fuse import fuse
from systolith.compiler.passes.separate_pools import separate
from systolith.compiler.pipeline import compile_graph
from systolith.config import PRESETS
from systolith.errors import UnsupportedError
from systolith.isa import Unit
from systolith.sim.golden.golden import run
from tests.support.against_golden import ALL, agrees
from tests.support.graph_builder import Network

TINY = PRESETS["tiny4"]
DIMS = 1, 6, 11, 13
WINDOWS = (
    {"kernel": (3, 3), "stride": (2, 2)},
    {"kernel": (3, 3), "stride": (2, 2), "pads": (1, 0, 1, 0)},
    {"kernel": (2, 5), "stride": (1, 3), "dilation": (2, 1)},
    {"kernel": (3, 2), "stride": (3, 1)},
    {"kernel": (2, 2), "stride": (1, 2)},
)


def separated(graph: Graph) -> Graph:
    """The graph after the pass, if it computes the same."""
    after = verify(separate(verify(fuse(graph, TINY)), TINY))
    rng = np.random.default_rng(0)
    x = {port.name: rng.integers(-128, 128, port.shape).astype(np.int8) for port in graph.inputs}
    expected, found = run(graph, x), run(after, x)
    assert all((found[name] == expected[name]).all() for name in expected)
    return after


@pytest.mark.parametrize("window", WINDOWS)
def test_rows_join_a_convolution(window):
    net = Network(DIMS)
    conv, pool = separated(net.graph(net.pool(net.conv(net.x, 5, pads=(1, 1, 1, 1)), **window))).layers
    assert isinstance(conv, Conv) and conv.pool and conv.pool.kernel == (1, window["kernel"][1])
    assert isinstance(pool, SfuOp) and pool.window.kernel == (window["kernel"][0], 1)
    assert conv.pool.stride[1] == window["stride"][1] and pool.window.stride[0] == window["stride"][0]


def test_rows_join_through_a_concatenation():
    net = Network(DIMS)
    parts = net.table(net.conv(net.x, 5, (1, 1)), rising=True), net.conv(net.x, 9, pads=(1, 1, 1, 1))
    layers = separated(net.graph(net.pool(net.concat(*parts), **WINDOWS[0]))).layers
    assert [isinstance(layer, Conv) and layer.pool is not None for layer in layers] == [True, True, False, False]
    net = Network(DIMS)
    parts = net.x, net.conv(net.x, 9, pads=(1, 1, 1, 1))
    assert len(separated(net.graph(net.pool(net.concat(*parts), **WINDOWS[0]))).layers) == 3


def test_one_step_stays_where_two_are_not_less():
    for make in (
        lambda net, y: net.pool(y, **WINDOWS[0], pads=(0, 1, 0, 1)),  # sums have no value for pads
        lambda net, y: net.pool(net.table(y, rising=False), **WINDOWS[0]),
        lambda net, y: net.pool(net.add(y, net.conv(net.x, 5)), **WINDOWS[0]),
        lambda net, y: net.add(net.pool(y, kernel=(3, 3)), net.conv(y, 5)),  # another reader; 3 + 3 reads instead of 9
        lambda net, y: net.pool(y, "average", kernel=(3, 3), stride=(2, 2)),
        lambda net, y: net.pool(y, kernel=(2, 2), stride=(2, 2)),
    ):
        net = Network(DIMS)
        graph = net.graph(make(net, net.conv(net.x, 5)))
        pools = [layer.pool for layer in separated(graph).layers if isinstance(layer, Conv) and layer.pool]
        assert all(pool.kernel == pool.stride for pool in pools)
    wide = Network((1, 3, 5, 40))
    assert len(separated(wide.graph(wide.pool(wide.conv(wide.x, 5), **WINDOWS[0]))).layers) == 2


def test_names_of_steps_are_not_taken():
    net = Network(DIMS)
    net.inputs.append(net.value("max1.rows0", DIMS))
    layers = separated(net.graph(net.pool(net.conv("max1.rows0", 5), **WINDOWS[0]))).layers
    assert [layer.output for layer in layers] == ["max1.rows0'", "max1"]


@pytest.mark.parametrize("window", [
    {"kernel": (1, 256)}, {"kernel": (3, 256)}, {"kernel": (1, 2), "dilation": (1, 256)},
    {"kernel": (3, 3), "dilation": (256, 1)},
])  # fmt: skip
def test_windows_that_no_instruction_has_stay(window):
    """So that the layer is refused by its own name."""
    net = Network((1, 4, 520, 300))
    graph = net.graph(net.pool(net.conv(net.x, 4, (1, 1)), **window))
    with pytest.raises(UnsupportedError, match=r"^Layer 'max1' must have "):
        compile_graph(graph, PRESETS["edge16"])


def test_two_steps_alone_read_less():
    net = Network(DIMS)
    pools = [net.pool(net.x, kernel=(k, k), pads=(k // 2,) * 4) for k in (3, 5, 7)]
    layers = separated(net.graph(net.concat(net.x, *pools))).layers
    assert [layer.window.kernel for layer in layers if isinstance(layer, SfuOp)] == [
        size for k in (3, 5, 7) for size in ((1, k), (k, 1))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("window", WINDOWS)
def test_programs_compute_the_same(name, window):
    for seed, each in enumerate((0, 1)):
        net = Network((2, 6, 17, 19), seed)
        made = net.conv(net.x, 10, stride=(1, 2)) if each else net.depthwise(net.x, pads=(1, 1, 1, 1))
        compiled = agrees(net.graph(net.conv(net.table(net.pool(made, **window)), 7, (1, 1))), ALL[name], seed)
        assert any(item.job.lap for item in compiled.planned) == (window["kernel"][1] > window["stride"][1])


def test_two_steps_take_less_of_the_special_function_unit():
    """For each position of 3 x 3 windows with strides of 2: 1.5 and 0.75 reads, instead of 1 and 2.25."""
    net = Network((1, 8, 25, 25))
    compiled = agrees(net.graph(net.pool(net.conv(net.x, 8, pads=(1, 1, 1, 1)), **WINDOWS[0])), TINY)
    work = sum(item.plan.costs.array for item in compiled.planned if item.job.unit == Unit.SFU)
    assert work == 12 * 12 * 3 * 2 * TINY.array // TINY.sfu_lanes
