"""Sound layers that only a host can run, among others: they go there by name, and all of it computes what it should."""

import numpy as np
import pytest

from systolith.compiler.network import compile_network
from systolith.config import PRESETS
from systolith.network import Network
from systolith.sim.run import run
from tests.support.against_onnxruntime import unoptimized
from tests.support.split_models import Net

TINY = PRESETS["tiny4"]
IMAGE = [1, 4, 6, 6]


def holds(net: Net, y: str, reason: str) -> None:
    """Convolutions run before and behind what the host runs for that reason. A step of difference in the first one is
    at most two behind the last."""
    net.output(net.conv(y), np.int8, IMAGE)
    model = net.model()
    network = compile_network(model, TINY)
    assert isinstance(network, Network)
    assert any(reason in node.reason for node in network.host_nodes), network.host_nodes
    assert sum(layer["op"] == "Conv" for part in network.programs for layer in part.meta["layers"]) >= 2
    inputs = {"x": np.random.default_rng(2).normal(0, 2, IMAGE).astype(np.float32)}
    outputs, _ = run(network, inputs, TINY, "isa")
    for name, expected in unoptimized(model, inputs).items():
        off = np.abs(outputs[name].astype(int) - expected)
        assert off.max() <= 2
        assert (off > 0).mean() < 0.1


def shaped(net: Net, x: str, *shape: int) -> str:
    return net.node("Reshape", [x, net.constant(np.array(shape, np.int64))])


def weighted(net: Net, x: str, scale, **attributes) -> str:
    """A 1x1 convolution of an int8 tensor, with weights of that scale."""
    values = net.constant(net.rng.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8))
    w = net.dequantize(values, scale, np.zeros(np.shape(scale), np.int8), **({"axis": 0} if np.ndim(scale) else {}))
    return net.node("Conv", [net.real(x), w], "middle", **attributes)


def test_a_convolution_of_three_dimensions():
    net = Net()
    x = shaped(net, net.real(net.conv(net.image())), 1, 1, 4, 6, 6)
    w = net.dequantize(net.constant(net.rng.integers(-127, 128, (1, 1, 3, 3, 3)).astype(np.int8)), 0.01, np.int8(0))
    y = net.node("Conv", [x, w], "deep", pads=[1] * 6)
    y = shaped(net, net.dequantize(net.quantize(y, 0.2, np.int8(0)), 0.2, np.int8(0)), *IMAGE)
    holds(net, net.small(y), "input must have 3 or 4 dimensions (1-D or 2-D convolution), not 5")


@pytest.mark.parametrize(("scale", "found"), [(-0.01, "-0.01"), ([0.01, 0.02, -0.03, 0.01], "-0.03")])
def test_weights_of_a_negative_scale(scale, found: str):
    net = Net()
    y = weighted(net, net.conv(net.image()), np.array(scale, np.float32))
    holds(net, net.small(y), f"weights must have finite scales of at least 0, not {found}")


@pytest.mark.parametrize("scale", [0.0, 1e-40, -0.05])
def test_activations_of_such_a_scale(scale: float):
    net = Net()
    x = net.conv(net.image())
    y = net.node("Add", [net.real(x), net.dequantize(x, scale, np.int8(3))])
    holds(net, net.small(y), "the scale of an activation must be a normal positive float32")
    net = Net()
    real = net.node("Sigmoid", [net.real(net.conv(net.image()))])
    q = net.quantize(real, scale, np.int8(3))
    y = net.dequantize(q, np.float32(0.01), np.int8(3))
    holds(net, net.small(y), "the scale of an activation must be a normal positive float32")


def test_weights_whose_scales_have_no_axis():
    net = Net()
    x = net.conv(net.image())
    values = net.constant(net.rng.integers(-127, 128, (2, 2, 4)).astype(np.int8))
    w = net.dequantize(values, [0.01, 0.02], np.zeros(2, np.int8), axis=1)
    y = net.node("Conv", [net.real(x), shaped(net, w, 4, 4, 1, 1)])
    holds(net, net.small(y), "weights must be a dequantized int8 constant, not a float32 constant")


def test_a_bias_that_is_computed():
    net = Net()
    x = net.conv(net.image())
    bias = shaped(net, net.node("ReduceMean", [net.real(x)], axes=[0, 2, 3], keepdims=0), 4)
    values = net.constant(net.rng.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8))
    y = net.node("Conv", [net.real(x), net.dequantize(values, 0.01, np.int8(0)), bias])
    holds(net, net.small(y), "bias must be a dequantized or a float32 constant")
