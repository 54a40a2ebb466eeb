"""Add, Sub, Mul and their quantized forms of two tensors, against ONNX Runtime; a residual network."""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Add, Multiply, SfuOp
from systolith.errors import SystolithError, UnsupportedError
from systolith.numerics import add_constants
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, finish, output, value
from tests.support.seeds import seeds

TYPES = np.dtype(np.int8), np.dtype(np.uint8)
RNG = np.random.default_rng(0)


def pair(op: str, shapes, scales=(0.1, 0.2, 0.3), zeros=(1, 2, 3), tail=None, opset: int = 17) -> bytes:
    """Two inputs of uint8 -> `op` 'pair' -> QuantizeLinear."""
    writer = ModelWriter(opset)
    names = [
        writer.dequantize(writer.input(f"x{i}", np.uint8, shape), scales[i], np.uint8(zeros[i]))
        for i, shape in enumerate(shapes)
    ]
    y = writer.node(op, names, "pair")
    if tail:
        y = writer.node(tail[0], [y, *(writer.constant(np.float32(n)) for n in tail[1:])])
    return finish(writer, y, scales[2], np.uint8(zeros[2]), max(map(len, shapes)))


def random_pair(rng: np.random.Generator) -> bytes:
    """Random operator, shapes (broadcast over height and width or not), scales and zero points."""
    op = str(rng.choice(["Add", "Sub", "Mul", "Sum", "QLinearAdd", "QLinearMul"]))
    rank, dtype = int(rng.choice([1, 2, 3, 4, 4, 4])), TYPES[rng.integers(2)]
    whole = [int(n) for n in rng.integers(1, 8, rank)]
    part = [1 if i >= 2 and rank > 2 and rng.random() < 0.3 else n for i, n in enumerate(whole)]
    shapes = [whole, part if whole[0] > 1 or rng.random() < 0.8 or rank < 2 else part[1:]]
    shapes = shapes[:: int(rng.choice([-1, 1]))]
    scales = np.exp(rng.uniform(np.log(0.004), np.log(0.5), 3)).astype(np.float32)
    scales[2] = scales[0] * scales[1] * rng.uniform(10, 150) if "Mul" in op else max(scales[:2]) * rng.uniform(0.3, 3)
    zeros = [value(rng, dtype) for _ in range(3)]
    writer = ModelWriter(int(rng.integers(13, 23)))
    names = [writer.input(f"x{i}", dtype, shape) for i, shape in enumerate(shapes)]
    if not op.startswith("Q"):
        reals = [writer.dequantize(x, s, z) for x, s, z in zip(names, scales, zeros, strict=False)]
        y = writer.node(op, reals)
        y = writer.node("Relu", [y]) if rng.random() < 0.3 else y
        return finish(writer, y, scales[2], zeros[2], rank)
    constants = [[writer.constant(s), writer.constant(z)] for s, z in zip(scales, zeros, strict=True)]
    y = writer.node(op, [names[0], *constants[0], names[1], *constants[1], *constants[2]], domain="com.microsoft")
    return output(writer, y, dtype, rank)


@seeds(60)
def test_random_pairs(seed):
    """Equal on these seeds; float32 rounding may cost ONNX Runtime's additions a step in one of a million."""
    rng = np.random.default_rng(seed)
    agree(random_pair(rng), rng)


def test_addition_is_a_map():
    """Requantization is the identity; each tensor keeps its own zero point until it is added."""
    graph = agree(pair("Add", [(1, 3, 4, 5), (1, 3, 1, 1)]), RNG)
    (layer,) = graph.layers
    assert isinstance(layer, SfuOp)
    assert (layer.input, layer.x_scale, layer.y_scale, layer.zero_point) == ("x0", 1.0, 1.0, 0)
    constants = add_constants(np.float32(0.1), np.float32(0.2), np.float32(0.3))
    assert layer.add == Add("x1", (1 - 128, 2 - 128), constants, 3 - 128)
    assert graph.values["x1"].dims == (1, 3, 1, 1)


def test_the_whole_tensor_comes_first():
    """b - a with a the whole one: a is the input, subtracted."""
    (layer,) = agree(pair("Sub", [(1, 3, 1, 1), (1, 3, 4, 5)]), RNG).layers
    assert isinstance(layer, SfuOp)
    assert layer.add
    assert (layer.input, layer.add.operand) == ("x1", "x0")
    first, second, shift = add_constants(np.float32(0.2), np.float32(0.1), np.float32(0.3))
    assert layer.add.constants == (-first, second, shift)


def test_multiplication_is_a_map():
    (layer,) = agree(pair("Mul", [(2, 3, 4, 5), (2, 3, 4, 5)], (0.1, 0.2, 3)), RNG).layers
    assert isinstance(layer, SfuOp)
    assert layer.multiply == Multiply("x1", (1 - 128, 2 - 128))
    assert (layer.x_scale, layer.y_scale) == (np.float32(0.1) * np.float32(0.2), 3)


@pytest.mark.parametrize(("tail", "limits"), [
    (None, (-128, 127)), (("Relu",), (-28, 127)), (("Clip", -1.0, 2.0), (-31, -21))])  # fmt: skip
def test_limits(tail, limits):
    (layer,) = agree(pair("Add", [(1, 3, 4, 5)] * 2, zeros=(1, 2, 100), tail=tail), RNG).layers
    assert isinstance(layer, SfuOp)
    assert layer.add
    assert (layer.add.low, layer.add.high) == limits


@pytest.mark.parametrize(("shapes", "message"), [
    ([(2, 3, 4, 5), (1, 3, 4, 5)], "same batch, and channels, height and width the same or 1"),
    ([(1, 3, 4, 1), (1, 3, 1, 5)], "one of the inputs must have the output's shape (1, 3, 4, 5)"),
    ([(2, 2, 3, 4, 5), (2, 1, 3, 4, 5)], "Add 'pair': ")])  # fmt: skip
def test_what_cannot_be_broadcast(shapes, message):
    with pytest.raises(UnsupportedError) as error:
        import_model(pair("Add", shapes))
    assert message in str(error.value)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("shapes", [[(2, 6, 4, 5), (2, 1, 4, 5)], [(2, 1, 1, 5), (2, 6, 4, 5)]])
def test_one_channel_for_all(op, shapes):
    """As spatial attention has it: the channel is copied, exactly."""
    copy, _ = agree(pair(op, shapes, (0.1, 0.2, 0.3 if op != "Mul" else 3.0)), RNG).layers
    assert (copy.op, copy.macs_of) == (op, 0)


def test_one_channel_made_by_a_layer_for_all_of_an_input():
    """The input's channels are known before a layer reads it."""
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.uint8, (1, 6, 4, 5)), 0.1, np.uint8(3))
    mask = writer.dequantize(writer.input("mask", np.uint8, (1, 2, 4, 5)), 0.1, np.uint8(100))
    weights = writer.dequantize(writer.constant(np.array([[[[90]], [[-80]]]], np.int8)), 0.01, np.int8(0))
    gate = writer.dequantize(
        writer.quantize(writer.node("Conv", [mask, weights]), 0.2131, np.uint8(9)), 0.2131, np.uint8(9)
    )
    graph = agree(finish(writer, writer.node("Mul", [x, gate]), 2.917, np.uint8(70)), RNG)
    assert [layer.op for layer in graph.layers] == ["Conv", "Mul", "Mul"]


def test_shapes_that_do_not_match():
    with pytest.raises(SystolithError, match="Add 'pair': inputs must be broadcast to one shape"):
        import_model(pair("Add", [(1, 3, 4, 5), (1, 2, 4, 5)]))


def test_division_of_tensors():
    with pytest.raises(UnsupportedError, match="Div 'pair': one input must be a constant"):
        import_model(pair("Div", [(1, 3, 4, 5)] * 2))


def conv(writer: ModelWriter, x: str, inputs: int, outputs: int, scale: float, zero_point=-128, relu=True, **kwargs):
    """Conv with per-channel weights and bias, then Relu or not, then QuantizeLinear; dequantized again."""
    scales = RNG.uniform(0.001, 0.003, outputs).astype(np.float32)
    w = writer.dequantize(
        writer.constant(RNG.integers(-127, 128, (outputs, inputs, 3, 3)).astype(np.int8)),
        scales, np.zeros(outputs, np.int8), axis=0)  # fmt: skip
    b = writer.dequantize(
        writer.constant(RNG.integers(-999, 999, outputs).astype(np.int32)),
        np.float32(kwargs.pop("x_scale")) * scales, np.zeros(outputs, np.int32), axis=0)  # fmt: skip
    y = writer.node("Conv", [x, w, b], pads=[1, 1, 1, 1], **kwargs)
    y = writer.node("Relu", [y]) if relu else y
    return writer.dequantize(writer.quantize(y, scale, np.int8(zero_point)), scale, np.int8(zero_point))


@pytest.mark.parametrize("batch", [1, 3])
def test_residual_network(batch):
    """As TFLite conversions are: NHWC input, residual additions, average pool, MatMul with an int32 bias added."""
    writer = ModelWriter(13)
    x = writer.node("Transpose", [writer.input("x", np.int8, ("n", 8, 8, 3))], perm=[0, 3, 1, 2])
    a = conv(writer, writer.dequantize(x, 0.02, np.int8(-3)), 3, 8, 0.03, x_scale=0.02)
    b = conv(writer, conv(writer, a, 8, 8, 0.05, x_scale=0.03), 8, 8, 0.07, 5, relu=False, x_scale=0.05)
    c = writer.node("Relu", [writer.node("Add", [a, b])])
    c = writer.dequantize(writer.quantize(c, 0.08, np.int8(-128)), 0.08, np.int8(-128))
    y = writer.quantize(writer.node("AveragePool", [c], kernel_shape=[8, 8]), 0.08, np.int8(-128))
    y = writer.node("Reshape", [y, writer.constant(np.array([-1, 8], np.int64))])
    w = writer.dequantize(writer.constant(RNG.integers(-127, 128, (8, 10)).astype(np.int8)), 0.005, np.int8(0))
    y = writer.node("MatMul", [writer.dequantize(y, 0.08, np.int8(-128)), w])
    bias = writer.constant(RNG.integers(-999, 999, 10).astype(np.int32))
    y = writer.node("Add", [y, writer.dequantize(bias, np.float32(0.08) * np.float32(0.005), np.int32(0))])
    model = finish(writer, y, 0.1, np.int8(12), 2)
    graph = agree(model, RNG, batch)
    assert [layer.op for layer in graph.layers] == ["Conv", "Conv", "Conv", "Add", "AveragePool", "MatMul"]
    assert set(reference.float_operators(model)) <= {"QLinearAdd", "QLinearAveragePool"}


def test_squeeze_and_excite():
    """The mean of each channel, through two matrices, scales the channel: [N, C] back to [N, C, 1, 1]."""
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.uint8, (2, 6, 5, 5)), 0.02, np.uint8(100))
    s = writer.node("Flatten", [writer.node("GlobalAveragePool", [x])])
    s = writer.quantize(s, 0.01, np.uint8(120))
    w = writer.dequantize(writer.constant(RNG.integers(-127, 128, (6, 6)).astype(np.int8)), 0.01, np.int8(0))
    s = writer.quantize(writer.node("MatMul", [writer.dequantize(s, 0.01, np.uint8(120)), w]), 0.02, np.uint8(128))
    s = writer.quantize(writer.node("Sigmoid", [writer.dequantize(s, 0.02, np.uint8(128))]), 1 / 256, np.uint8(0))
    s = writer.node("Reshape", [s, writer.constant(np.array([2, 6, 1, 1], np.int64))])
    y = writer.node("Mul", [writer.dequantize(s, 1 / 256, np.uint8(0)), x])
    graph = agree(finish(writer, y, 0.02, np.uint8(100)), RNG)
    assert [layer.op for layer in graph.layers] == ["GlobalAveragePool", "MatMul", "Sigmoid", "Mul"]
    assert isinstance(graph.layers[-1], SfuOp)
    assert graph.layers[-1].input == "x"


def test_sum_without_quantization():
    """The result of a convolution added in float32: ONNX Runtime computes all of it in float32, so the host does."""
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.uint8, (1, 4, 5, 5)), 0.02, np.uint8(100))
    w = writer.dequantize(writer.constant(RNG.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8)), 0.01, np.int8(0))
    y = writer.node("Add", [writer.node("Conv", [x, w], "conv"), x], "sum")
    with pytest.raises(UnsupportedError) as error:
        import_model(finish(writer, y, 0.02, np.uint8(100)))
    assert "Add 'sum': inputs must be constants and DequantizeLinear" in str(error.value)
    assert error.value.node == "sum_out"
