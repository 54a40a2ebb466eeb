"""Tensors without elements: 0 is a size in a file. Layers that have one run on the host, all others do not."""

from collections.abc import Callable

import numpy as np
import pytest

from systolith import PRESETS, SystolithError
from systolith.compiler.network import compile_network
from systolith.network import Network
from systolith.sim.compare import whole_network
from systolith.sim.compare.outputs import check
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.split_models import IMAGE, Net

TINY = PRESETS["tiny4"]


def ints(net: Net, *values: int) -> str:
    return net.constant(np.array(values, np.int64))


def nothing_of(net: Net, x: str, axis: int = 2) -> str:
    return net.node("Slice", [x, ints(net, 0), ints(net, 0), ints(net, axis)])


def empty(net: Net, *shape: int) -> str:
    return net.small(net.input("e", np.float32, shape))


MODELS: dict[str, tuple[Callable[[Net, str], str], int]] = {
    # What a network makes of the 8-bit tensor x, an 8-bit tensor; and how many Conv are on the host.
    "slice": (nothing_of, 0),
    "relu": (lambda net, x: net.small(net.node("Relu", [net.real(nothing_of(net, x))])), 0),
    "conv": (lambda net, x: net.conv(nothing_of(net, x, 0)), 1),
    "concat": (lambda net, x: net.conv(net.node("Concat", [nothing_of(net, x), x], axis=2)), 0),
    "mean": (lambda net, x: net.small(net.node("ReduceMean", [net.real(nothing_of(net, x))], axes=[0])), 0),
    "input": (lambda net, _: net.conv(empty(net, 0, *IMAGE[1:])), 1),
    "input, joined": (lambda net, x: net.conv(net.node("Concat", [empty(net, 1, 0, 6, 6), x], axis=1)), 0),
    "input, one more": (lambda net, x: net.conv(net.node("Concat", [empty(net, 0, *IMAGE[1:]), x], axis=0)), 0),
    "input, added": (lambda net, x: net.add(net.conv(empty(net, 0, *IMAGE[1:])), x), 1),
    "input, product": (lambda net, _: net.matmul(empty(net, 0, 8), 8), 0),
    "input, alone": (lambda net, _: empty(net, 3, 0), 0),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("error")
def test_layers_that_have_elements_stay(name):
    net = Net()
    x = net.conv(net.image())
    net.floats(net.conv(x), None)
    make, on_host = MODELS[name]
    net.output(make(net, x), np.int8, None)
    network = compile_network(net.model(), TINY)
    assert isinstance(network, Network)
    assert [node.op for node in network.host_nodes].count("Conv") == on_host
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed
    assert whole_network.judge(network, inputs, outputs).passed


@pytest.mark.filterwarnings("error")
def test_a_pool_of_nothing():
    """ONNX Runtime has none."""
    net = Net()
    x = net.conv(net.image())
    net.floats(net.conv(x), None)
    net.output(net.small(net.node("GlobalAveragePool", [net.real(nothing_of(net, x))])), np.int8, None)
    network = compile_network(net.model(), TINY)
    with pytest.raises(SystolithError, match=r"Host part of .*GlobalAveragePool"):
        run(network, random_inputs(network, 1), TINY, "isa")


def test_a_batch_of_nothing():
    net = Net()
    net.floats(net.conv(net.small(net.input("x", np.float32, [0, *IMAGE[1:]]))), None)
    with pytest.raises(SystolithError) as error:
        compile_network(net.model(), TINY)
    assert "input 'x' must have elements, not size 0 in dimension 0" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(SystolithError, match="input 'x' has batch 0 fixed in the file; batch must be that, not 2"):
        compile_network(net.model(), TINY, batch=2)
