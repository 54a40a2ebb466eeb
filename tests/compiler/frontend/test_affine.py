"""Scale and shift for each channel: folded into a layer, or a layer of their own; within one step of ONNX Runtime."""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Conv
from systolith.errors import UnsupportedError
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, differences, finish, output, value

TYPES = np.dtype(np.int8), np.dtype(np.uint8)
RNG = np.random.default_rng(0)
KINDS = ("BatchNormalization", "Mul", "Add", "Sub", "Div", "Mul and Add", "Sub and Relu", "BatchNormalization and Clip",
         "Mul and Max")  # fmt: skip


def floats(writer: ModelWriter, values, shape=None) -> str:
    array = np.asarray(values, np.float32)
    return writer.constant(array.reshape(shape) if shape else array)


def normalized(writer: ModelWriter, x: str, gain, shift, mean=0.0, variance=1.0, epsilon=0.0) -> str:
    ones = np.ones(len(gain))
    constants = [floats(writer, c) for c in (gain, shift, mean * ones, variance * ones)]
    return writer.node("BatchNormalization", [x, *constants], "norm", epsilon=epsilon)


def scaled_and_shifted(writer: ModelWriter, x: str, kind: str, rng: np.random.Generator, gain, shift) -> str:
    """The nodes of one of KINDS behind `x`."""
    shape = (len(gain), 1, 1) if rng.random() < 0.5 else (1, len(gain), 1, 1)
    if kind.startswith("BatchNormalization"):
        x = normalized(writer, x, gain, shift, rng.uniform(-1, 1), rng.uniform(0.1, 2), 1e-3)
    if kind.startswith("Mul"):
        x = writer.node("Mul", [floats(writer, gain, shape), x])
    if kind == "Div":
        x = writer.node("Div", [x, floats(writer, np.sign(gain) * np.maximum(np.abs(gain), 0.1), shape)])
    if kind == "Add" or kind.endswith("and Add"):
        x = writer.node("Add", [x, floats(writer, shift, shape)])
    if kind.startswith("Sub"):
        x = writer.node("Sub", [floats(writer, shift, shape), x])
    if kind.endswith("Relu"):
        x = writer.node("Relu", [x])
    if kind.endswith("Max"):
        x = writer.node("Min", [writer.node("Max", [floats(writer, -0.4), x]), floats(writer, [2])])
    if kind.endswith("Clip"):
        x = writer.node("Clip", [x, floats(writer, -0.5), floats(writer, 2)])
    return x


def random_model(rng: np.random.Generator, kind: str, gains=(1e-3, 10.0), behind_conv=False) -> bytes:
    dtype, channels = TYPES[rng.integers(2)], int(rng.integers(2, 9))
    writer = ModelWriter(int(rng.integers(14, 22)))
    shape = int(rng.integers(1, 3)), channels, *(int(n) for n in rng.integers(1, 9, 2))
    x = writer.dequantize(writer.input("x", dtype, shape), rng.uniform(0.01, 0.1), value(rng, dtype))
    if behind_conv:
        values = rng.integers(-127, 128, (channels, channels, 1, 1)).astype(np.int8)
        scales, zeros = rng.uniform(0.001, 0.005, channels), np.zeros(channels, np.int8)
        x = writer.node("Conv", [x, writer.dequantize(writer.constant(values), scales, zeros, axis=0)])
    low, high = np.log(gains)
    gain = np.exp(rng.uniform(low, high, channels)) * rng.choice([-1, 1], channels)
    y = scaled_and_shifted(writer, x, kind, rng, gain, rng.uniform(-3, 3, channels))
    return finish(writer, y, rng.uniform(0.02, 0.1), value(rng, dtype))


@pytest.mark.parametrize("behind_conv", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_within_one_step(kind, behind_conv):
    """Of a tensor, rarely even that: 3 in 10,000 at most. In a layer, the bias is as coarse as its accumulator."""
    rng = np.random.default_rng(KINDS.index(kind))
    gains = (0.05, 2.0) if behind_conv else (1e-3, 10.0)
    off = [differences(random_model(rng, kind, gains, behind_conv), rng)[1] for _ in range(25)]
    counts = np.bincount(np.concatenate(off))
    assert len(counts) <= 2, counts
    assert counts[1:].sum() <= (0.01 if behind_conv else 3e-4) * counts.sum(), counts


@pytest.mark.parametrize("gain", [1e-12, 1e-7, 1e-4, 0.0, 300.0])
def test_extreme_gains(gain):
    """So small that the bias would not fit, none at all, or so large that all saturates."""
    for shift in (0.0, -1.7, 5.0, 1e4):
        writer = ModelWriter()
        x = writer.dequantize(writer.input("x", np.int8, (1, 2, 16, 16)), 0.05, np.int8(-3))
        y = normalized(writer, x, np.array([gain, -gain]), np.array([shift, 1.0]))
        _, off = differences(finish(writer, y, 0.05, np.int8(10)), RNG)
        assert off.max() <= 1
        assert np.count_nonzero(off) <= 2


def test_layer_of_its_own():
    """A depthwise 1x1 convolution with weights that tell the sign, and a note that it is not exact."""
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (1, 3, 4, 4)), 0.05, np.int8(-3))
    graph = import_model(finish(writer, normalized(writer, x, [0.5, -2, 0], [0, 0, 1]), 0.05, np.int8(10)))
    (layer,) = graph.layers
    assert isinstance(layer, Conv)
    assert (layer.groups, layer.weights.shape) == (3, (3, 1, 1, 1))
    assert layer.weights.reshape(-1).tolist() == [127, -127, 0]
    assert any("within one step of ONNX Runtime" in note for note in graph.notes)


def test_matrices():
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (5, 3)), 0.05, np.int8(-3))
    y = writer.node("Add", [writer.node("Mul", [x, floats(writer, [0.3, -0.4, 0.5])]), floats(writer, [1, 2, 3])])
    graph, off = differences(finish(writer, y, 0.05, np.int8(10), 2), RNG)
    assert graph.values["x"].dims == (1, 3, 1, 5)
    assert off.max() <= 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_products_with_quantized_constants_are_exact(dtype):
    """Integers times integers, as ONNX Runtime's QLinearMul has them."""
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", dtype, (2, 6, 5, 5)), 0.05, dtype(7))
    low, zero = (-127, 0) if dtype == np.int8 else (1, 128)
    values = RNG.integers(low, low + 255, (6, 1, 1)).astype(dtype)
    constant = writer.dequantize(writer.constant(values), 0.013, dtype(zero))
    (layer,) = agree(finish(writer, writer.node("Mul", [x, constant]), 0.07, dtype(50)), RNG).layers
    assert isinstance(layer, Conv)
    np.testing.assert_array_equal(layer.weights.reshape(-1), values.reshape(-1).astype(np.int64) - zero)


@pytest.mark.parametrize("op", ["QLinearMul", "QLinearAdd"])
def test_quantized_operators_with_constants(op):
    writer = ModelWriter()
    values = RNG.integers(1, 256, (1, 6, 1, 1)).astype(np.uint8)
    parameters = [(0.05, 7), (0.013, 128), (0.07, 50)]
    constants = [[writer.constant(np.float32(s)), writer.constant(np.uint8(z))] for s, z in parameters]
    x = writer.input("x", np.uint8, (2, 6, 5, 5))
    inputs = [x, *constants[0], writer.constant(values), *constants[1], *constants[2]]
    model = output(writer, writer.node(op, inputs, domain="com.microsoft"), np.dtype(np.uint8))
    assert [layer.op for layer in agree(model, RNG, steps=int(op == "QLinearAdd")).layers] == [
        op.removeprefix("QLinear")
    ]


def layer_and_norm(gain, shift, weights=None, variance=1.0) -> bytes:
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (1, 2, 4, 4)), 0.05, np.int8(-3))
    values = np.array([[127, -3], [5, 6]] if weights is None else weights, np.int8).reshape(2, 2, 1, 1)
    y = writer.node("Conv", [x, writer.dequantize(writer.constant(values), 0.01, np.int8(0))], "conv")
    return finish(writer, normalized(writer, y, gain, shift, variance=variance), 0.05, np.int8(10))


def test_folded_into_a_convolution():
    """A negative factor negates weights; a factor of 0 leaves the shift alone."""
    graph, off = differences(layer_and_norm([-0.5, 0.0], [0.3, 0.7]), RNG)
    assert off.max() <= 1
    (layer,) = graph.layers
    assert isinstance(layer, Conv)
    assert layer.weights.reshape(2, 2).tolist() == [[-127, 3], [0, 0]]
    assert np.isclose(layer.scale[0], 0.5 * 0.05 * 0.01 / 0.05)


@pytest.mark.parametrize(("gain", "shift"), [(1e-9, 3.0), (1e-12, -0.7), (1e-30, 1e4), (0.0, 1e-3)])
def test_a_factor_that_leaves_only_the_shift(gain: float, shift: float):
    """Of one channel: no accumulator holds both, and the other channel is as without it."""
    graph, off = differences(layer_and_norm([gain, 1.0], [shift, 0.2]), RNG)
    assert off.max() <= 1
    (layer,) = graph.layers
    assert isinstance(layer, Conv)
    assert layer.weights.reshape(2, 2).tolist() == [[0, 0], [5, 6]]


@pytest.mark.parametrize(("model", "message"), [
    (layer_and_norm([-0.5, 1.0], [0, 0], [[-128, 3], [5, 6]]),
     "BatchNormalization 'norm': weights of channels with a negative factor must be from -127"),
    (layer_and_norm([1.0, 1.0], [0, 0], variance=-1.0), "input 'var' must be positive with 'epsilon' added"),
])  # fmt: skip
def test_what_cannot_be_folded(model, message):
    with pytest.raises(UnsupportedError) as error:
        import_model(model)
    assert message in str(error.value)


def test_a_function_that_is_not_linear():
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (1, 3, 4, 4)), 0.05, np.int8(-3))
    y = writer.node("Sigmoid", [writer.node("Mul", [x, floats(writer, [1, 2, 3], (3, 1, 1))])], "sigmoid")
    with pytest.raises(UnsupportedError, match="Sigmoid 'sigmoid': must be linear"):
        import_model(finish(writer, y, 0.05, np.int8(10)))


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_limits_for_each_channel(op: str):
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (1, 3, 4, 4)), 0.05, np.int8(-3))
    y = writer.node(op, [x, floats(writer, [1, 2, 3], (3, 1, 1))], "limits")
    with pytest.raises(UnsupportedError, match=f"{op} 'limits': a limit must be one number, not one for each channel"):
        import_model(finish(writer, y, 0.05, np.int8(10)))


def test_constants_of_other_shapes():
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (1, 3, 4, 4)), 0.05, np.int8(-3))
    y = writer.node("Mul", [x, floats(writer, [1, 2, 3, 4])], "product")
    with pytest.raises(UnsupportedError, match="Mul 'product': a constant must be one number, or one for each channel"):
        import_model(finish(writer, y, 0.05, np.int8(10)))
