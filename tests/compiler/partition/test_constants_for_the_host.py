"""Constants that the front end does not fold: what reads them runs on the host, by name, and the rest does not."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto, helper

from systolith import PRESETS
from systolith.compiler.network import compile_network
from systolith.network import Network
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.split_models import CHANNELS, IMAGE, SIZE, Net

TINY = PRESETS["tiny4"]
KERNEL = (CHANNELS, CHANNELS, 1, 1)


def stored(net: Net, kind: int, shape: tuple[int, ...], values: np.ndarray, name: str) -> str:
    """An initializer of a type that NumPy has not."""
    net.initializers.append(helper.make_tensor(name, kind, shape, values.reshape(-1).tolist()))
    return name


def weights(net: Net, low: int = -127) -> np.ndarray:
    return net.rng.integers(low, -low + 1, KERNEL)


def int4(net: Net) -> str:
    w = stored(net, TensorProto.INT4, KERNEL, weights(net, -7), "w")
    zero = stored(net, TensorProto.INT4, (), np.zeros(1, np.int64), "wz")
    return net.node("DequantizeLinear", [w, net.constant(np.float32(0.1)), zero])


def int16(net: Net) -> str:
    return net.dequantize(net.constant(weights(net).astype(np.int16)), 0.01, np.int16(0))


def blocks(net: Net) -> str:
    scales = net.rng.uniform(0.005, 0.02, (2, CHANNELS, 1, 1)).astype(np.float32)
    zeros = net.constant(np.zeros(scales.shape, np.int8))
    w = net.constant(weights(net).astype(np.int8))
    return net.node("DequantizeLinear", [w, net.constant(scales), zeros], axis=0, block_size=2)


def float16(net: Net) -> str:
    w = net.node("DequantizeLinear", [net.constant(weights(net).astype(np.int8)), net.constant(np.float16(0.01)),
                                      net.constant(np.int8(0))])  # fmt: skip
    return net.node("Cast", [w], to=TensorProto.FLOAT)


def sequence(net: Net) -> str:
    w = net.dequantize(net.constant(weights(net).astype(np.int8)), 0.01, np.int8(0))
    parts = net.node("SplitToSequence", [w], axis=0)
    return net.node("ConcatFromSequence", [parts], axis=0)


def cast(kind: int) -> Callable[[Net], str]:
    """Through a type that NumPy has not: of float8, ONNX Runtime gives the bytes."""

    def make(net: Net) -> str:
        w = net.constant(weights(net, -6).astype(np.float32))
        w = net.node("Cast", [net.node("Cast", [w], to=kind)], to=TensorProto.FLOAT)
        return net.dequantize(net.quantize(w, 0.1, np.int8(0)), 0.1, np.int8(0))

    return make


float8, bfloat16, int4_cast = map(cast, (TensorProto.FLOAT8E4M3FN, TensorProto.BFLOAT16, TensorProto.INT4))


def quantized_in_blocks(net: Net) -> str:
    """Two constants that are refused, and one node that reads them."""
    scales = net.constant(net.rng.uniform(0.005, 0.02, (2, CHANNELS, 1, 1)).astype(np.float32))
    zeros = net.constant(np.zeros((2, CHANNELS, 1, 1), np.int8))
    w = net.constant((weights(net) / 100).astype(np.float32))
    small = net.node("QuantizeLinear", [w, scales, zeros], axis=0, block_size=2)
    return net.node("DequantizeLinear", [small, scales, zeros], axis=0, block_size=2)


def plain(net: Net) -> str:
    return net.dequantize(net.constant(weights(net).astype(np.int8)), 0.01, np.int8(0))


def network(make: Callable[[Net], str], opset: int = 21) -> bytes:
    """A convolution with those weights between two of the accelerator."""
    net = Net(opset=opset)
    x = net.conv(net.image())
    y = net.small(net.node("Conv", [net.real(x), make(net)], name="odd"))
    net.floats(net.conv(y), IMAGE)
    return net.model()


@pytest.mark.parametrize("make", [
    int4, int16, blocks, quantized_in_blocks, float16, float8, bfloat16, int4_cast, sequence, plain,
])  # fmt: skip
def test_what_reads_them_is_the_hosts(make):
    model = network(make)
    compiled = compile_network(model, TINY)
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    assert check(compiled, inputs, outputs).passed
    for name, values in reference.run(model, inputs, "none").items():
        assert np.abs(outputs[name] - values).max() < 0.16  # A step, and what a convolution makes of it.
    if make is plain:
        assert not isinstance(compiled, Network)
        return
    assert isinstance(compiled, Network)
    reasons = {node.name: node.reason for node in compiled.host_nodes}
    assert "odd" in reasons
    # Of what a sequence holds no shape is known, nor of what is computed from that.
    assert sum(node.op == "Conv" for node in compiled.host_nodes) == 1 + (make is sequence)
    assert "must be made by a node" not in reasons["odd"]


def test_operators_of_others_on_constants():
    """ONNX Runtime computes them, so the product is the accelerator's."""
    net = Net()
    table = net.rng.integers(0, 2, (CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
    scaled = net.node("Trilu", [net.constant(table.reshape(CHANNELS, CHANNELS))], domain="com.microsoft", upper=1)
    w = net.node("Reshape", [scaled, net.constant(np.array(KERNEL, np.int64))])
    w = net.dequantize(net.quantize(w, 0.01, np.int8(0)), 0.01, np.int8(0))
    net.floats(net.small(net.node("Conv", [net.real(net.image()), w])), IMAGE)
    compiled = compile_network(net.model(), TINY)
    assert not isinstance(compiled, Network)
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    assert check(compiled, inputs, outputs).passed


def test_constants_of_a_sequence_and_shapes_of_it():
    """A shape that comes out of a sequence of constants: the Reshape is the host's, and right."""
    net = Net()
    x = net.conv(net.image())
    sizes = net.node("SequenceConstruct", [net.constant(np.array([1, -1], np.int64)),
                                           net.constant(np.array([1, CHANNELS, -1], np.int64))])  # fmt: skip
    flat = net.node("Reshape", [net.real(x), net.node("SequenceAt", [sizes, net.constant(np.int64(1))])])
    net.output(flat, np.float32, [1, CHANNELS, SIZE * SIZE])
    model = net.model()
    compiled = compile_network(model, TINY)
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    assert check(compiled, inputs, outputs).passed
    (values,) = outputs.values()
    assert values.shape == (1, CHANNELS, SIZE * SIZE)


def test_a_large_constant_that_is_computed():
    """It is no constant of the program: the host makes it when it runs."""
    net = Net(opset=21)
    x = net.real(net.conv(net.image()))
    large = net.node("ConstantOfShape", [net.constant(np.array([1 << 24], np.int64))], "large")
    sums = net.node("ReduceSum", [large, net.constant(np.array([0], np.int64))], keepdims=0)
    net.floats(net.conv(net.small(net.node("Add", [x, sums], "odd"))), IMAGE)
    model = net.model()
    compiled = compile_network(model, TINY)
    assert isinstance(compiled, Network)
    reasons = {node.name: node.reason for node in compiled.host_nodes}
    assert any("must have fewer than 16777216 elements, not shape (16777216,)" in reason for reason in reasons.values())
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    assert check(compiled, inputs, outputs).passed
