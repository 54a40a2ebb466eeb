"""Concat, Slice, Split, Gather, views and channel shuffle: what the front end makes of them equals ONNX Runtime."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import helper

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Concat, Conv, Select, SfuOp
from systolith.errors import SystolithError, UnsupportedError
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.seeds import each_seed, many
from tests.support.small_models import RNG, SCALE, ZERO, finish, image, ints, refused, same, several, weights

# Concat


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("scales", [(SCALE, SCALE), (0.02, 0.11)])
def test_concat(axis, scales):
    writer = ModelWriter()
    shapes = np.full((2, 4), (2, 3, 4, 5))
    shapes[1, axis] = 6
    parts = [image(writer, *map(int, shape), name=f"x{i}", scale=scale)
             for i, (shape, scale) in enumerate(zip(shapes, scales, strict=True))]  # fmt: skip
    graph = same(finish(writer, writer.node("Concat", parts, axis=axis), 4))
    joined = [layer for layer in graph.layers if isinstance(layer, Concat)]
    assert [layer.axis for layer in joined] == [axis % 4]
    assert len(graph.layers) == 1 + 2 * (scales[0] != scales[1])


def test_concat_of_a_tensor_with_itself():
    writer = ModelWriter()
    x = image(writer, 1, 3, 4, 4, scale=0.03)
    graph = same(finish(writer, writer.node("Concat", [x, x, x], axis=1), 4))
    assert [type(layer) for layer in graph.layers] == [Concat, SfuOp]
    assert graph.layers[0].inputs == ("x",) * 3


def test_concat_of_signed_and_unsigned():
    writer = ModelWriter()
    parts = [image(writer, 1, 2, 3, 3), image(writer, 1, 2, 3, 3, name="y", zero_point=np.int8(-3))]
    same(finish(writer, writer.node("Concat", parts, axis=1), 4, zero_point=np.int8(-100)))


def test_concat_of_integers():
    writer = ModelWriter()
    names = [writer.input(name, np.int8, (1, 2, 3, 3)) for name in "xy"]
    y = writer.dequantize(writer.node("Concat", names, axis=1), 0.1, np.int8(3))
    graph = import_model(finish(writer, y, 4, 0.1, np.int8(3)))
    assert {value.scale for value in graph.values.values()} == {float(np.float32(0.1))}


def test_concat_channels_last():
    writer = ModelWriter()
    parts = []
    for outputs in (1, 3):
        y = writer.node("Conv", [image(writer, 1, 2, 1, 5, name=f"x{outputs}"), weights(writer, outputs, 2, 1, 1)])
        y = writer.dequantize(writer.quantize(y, SCALE, ZERO), SCALE, ZERO)
        parts.append(writer.node("Transpose", [y], perm=[0, 2, 3, 1]))
    graph = same(finish(writer, writer.node("Concat", parts, axis=3), 4))
    assert [layer.axis for layer in graph.layers if isinstance(layer, Concat)] == [1]


@pytest.mark.parametrize("zero_point", [np.uint8(128), np.int8(-7)])
def test_qlinear_concat(zero_point):
    writer = ModelWriter()
    for seed in each_seed(range(many(20))):
        rng = np.random.default_rng(seed)
        writer = ModelWriter()
        inputs = [writer.constant(np.float32(rng.uniform(0.01, 0.3))), writer.constant(zero_point)]
        for i in range(3):
            x = writer.input(f"x{i}", zero_point.dtype, (1, 64 * (i + 1), 4, 4))
            zero = rng.integers(0, 256).astype(np.uint8).view(zero_point.dtype)
            inputs += [x, writer.constant(np.float32(rng.uniform(0.01, 0.3))), writer.constant(zero)]
        y = writer.node("QLinearConcat", inputs, domain="com.microsoft", axis=1)
        writer.output(y, zero_point.dtype, (1, 384, 4, 4))
        assert len(same(writer.model()).layers) == 4


def test_concat_refusals():
    writer = ModelWriter()
    x, y = image(writer, 1, 3, 4, 4), image(writer, 1, 3, 4, 5, name="y")
    with pytest.raises(SystolithError, match="Concat 'c': inputs must agree in all axes but 1"):
        import_model(finish(writer, writer.node("Concat", [x, y], "c", axis=1), 4))
    writer = ModelWriter()
    x = image(writer, 1, 3, 4, 4)
    with pytest.raises(SystolithError, match="Concat 'c': attribute 'axis' must be from -4 to 3, not 4"):
        import_model(finish(writer, writer.node("Concat", [x, x], "c", axis=4), 4))
    writer = ModelWriter()
    x = image(writer, 1, 3, 4, 4)
    error = refused(
        finish(writer, writer.node("Concat", [x, writer.constant(np.ones((1, 1, 4, 4), np.float32))], "c", axis=1), 4)
    )
    assert (error.node, "a float32 constant" in str(error)) == ("c_out", True)


# Slice, Split, Gather


@pytest.mark.parametrize(("starts", "ends", "axes", "steps", "kinds"), [
    ([1], [3], [1], None, [Select]), ([0], [9], [1], [2], [Select]), ([1, 2], [5, 7], [2, 3], None, [SfuOp]),
    ([-4], [2**62], [2], [3], [SfuOp]), ([1, 0, 1], [3, 4, 6], [1, 2, 3], [1, 2, 2], [Select, SfuOp]),
    ([1], [2], [0], None, [SfuOp]), ([1, 1], [3, 2], [0, 1], None, [Select]),
    ([0, 0], [2**31, 2**31], None, None, [SfuOp]),
    ([-1, -3], [9, -1], [0, 3], None, [SfuOp])])  # fmt: skip
@pytest.mark.parametrize("integers", [False, True])
def test_slice(starts, ends, axes, steps, kinds, integers):
    writer = ModelWriter()
    x = writer.input("x", np.uint8, (3, 6, 7, 8))
    x = x if integers else writer.dequantize(x, SCALE, ZERO)
    given = [x, ints(writer, *starts), ints(writer, *ends)]
    if axes:
        given.append(ints(writer, *axes))
    if steps:
        given.append(ints(writer, *steps))
    y = writer.node("Slice", given)
    if integers:
        writer.output(y, np.uint8, list("abcd"))
    graph = same(writer.model() if integers else finish(writer, y, 4))
    assert [type(layer) for layer in graph.layers] == kinds


@pytest.mark.parametrize(("opset", "axis", "sizes"), [
    (11, 1, None), (11, 1, [1, 3, 2]), (13, 1, [4, 1, 1]), (13, 2, [1, 2, 3]), (17, 3, None), (18, 1, None),
    (18, 3, [1, 1, 4]), (13, 0, [1, 1, 4])])  # fmt: skip
def test_split(opset, axis, sizes):
    writer = ModelWriter(opset)
    inputs, attributes = [image(writer, 6, 6, 6, 6)], {"axis": axis}
    if sizes and opset < 13:
        attributes["split"] = sizes
    elif sizes:
        inputs.append(ints(writer, *sizes))
    elif opset >= 18:
        attributes["num_outputs"] = 3
    parts = several(writer, "Split", inputs, 3, **attributes)
    for part in parts:
        q = writer.quantize(writer.node("Relu", [part]), SCALE, ZERO)
        writer.output(writer.dequantize(q, SCALE, ZERO), np.float32, list("abcd"))
    same(writer.model())


def test_uneven_split():
    writer = ModelWriter(18)
    parts = several(writer, "Split", [writer.input("x", np.int8, (1, 8, 2, 2))], 3, axis=1, num_outputs=3)
    for part in parts:
        writer.output(part, np.int8, list("abcd"))
    graph = same(writer.model())
    assert [len(layer.channels) for layer in graph.layers] == [3, 3, 2]


@pytest.mark.parametrize(
    ("axis", "indices"),
    [(1, [3, 0, 0, 5]), (1, 2), (1, -1), (2, [1, 3, 5]), (2, 0), (3, -2), (0, 1), (0, [0, 1]), (-3, [5, 4])],
)
def test_gather(axis, indices):
    writer = ModelWriter()
    y = writer.node("Gather", [image(writer, 2, 6, 7, 8), writer.constant(np.array(indices, np.int64))], axis=axis)
    same(finish(writer, y, 3 if isinstance(indices, int) else 4))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Slice", ([3], [0], [1], [-1]), {}, "input 'steps' must be positive, not -1"),
        ("Slice", ([3], [3], [1], [1]), {}, "axis 1 of size 6 must keep something, not [3:3]"),
        ("Slice", ([0], [2], [0], [2]), {}, None),
        ("Gather", ([1, 0],), {"axis": 2}, "indices of rows and columns must rise in even steps, not [1, 0]"),
        ("Gather", ([0, 0],), {"axis": 0}, "indices of images must rise in steps of 1, not [0, 0]"),
        ("Gather", ([[0, 1]],), {"axis": 1}, "input 'indices' must be a number or a list of some, not of shape (1, 2)"),
    ],
)
def test_what_a_host_must_slice(op, inputs, attributes, message):
    writer = ModelWriter()
    given = [writer.constant(np.array(numbers, np.int64)) for numbers in inputs]
    model = finish(writer, writer.node(op, [image(writer, 2, 6, 7, 8), *given], "node", **attributes), 4)
    if message is None:
        same(model)
    else:
        error = refused(model)
        assert (error.node, str(error)) == ("node_out", f"model: {op} 'node': {message}")


@pytest.mark.parametrize(("op", "inputs", "attributes", "message"), [
    ("Slice", ([0, 1], [2], [1]), {}, "inputs 'starts', 'ends', 'axes' and 'steps' must have the same size, not 2, 1"),
    ("Slice", ([0], [2], [4]), {}, "axis must be from -4 to 3, not 4"),
    ("Slice", ([0, 0], [2, 2], [1, -3]), {}, "input 'axes' must name each axis once, not [1, -3]"),
    ("Slice", ([0], [2], [1], [0]), {}, "input 'steps' must not be 0"),
    ("Gather", ([6],), {"axis": 1}, "input 'indices' must be from -6 to 5, not [6]"),
    ("Gather", ([0],), {"axis": 5}, "axis must be from -4 to 3, not 5"),
    ("Split", ([3, 2],), {"axis": 1}, "parts must be 1 sizes that add up to 6, not [3, 2]")])  # fmt: skip
def test_wrong_slices(op, inputs, attributes, message):
    writer = ModelWriter()
    given = [writer.constant(np.array(numbers, np.int64)) for numbers in inputs]
    model = finish(writer, writer.node(op, [image(writer, 2, 6, 7, 8), *given], "node", **attributes), 4)
    with pytest.raises(SystolithError) as error:
        import_model(model)
    assert not isinstance(error.value, UnsupportedError)
    assert message in str(error.value)


def test_a_part_of_nothing_is_for_the_host():
    writer = ModelWriter()
    parts = several(writer, "Split", [image(writer, 2, 6, 7, 8), ints(writer, 0, 6)], 2, axis=1)
    error = refused(finish(writer, parts[1], 4))
    assert "parts must not be empty, as one of [0, 6] is" in str(error)


# Channel shuffle and views


def shuffled(writer: ModelWriter, x: str, groups: int, batch: int, channels: int, *size: int) -> str:
    y = writer.node("Reshape", [x, ints(writer, batch, groups, channels // groups, *size)])
    y = writer.node("Transpose", [y], perm=[0, 2, 1, *range(3, 3 + len(size))])
    return writer.node("Reshape", [y, ints(writer, batch, -1, *size)])


@pytest.mark.parametrize("parameters_between", [False, True])
@pytest.mark.parametrize(("batch", "groups"), [(1, 2), (2, 3), (2, 6)])
def test_channel_shuffle(batch, groups, parameters_between):
    writer = ModelWriter()
    y = image(writer, batch, 12, 4, 5)
    if parameters_between:
        y = writer.node("Reshape", [y, ints(writer, batch, groups, 12 // groups, 4, 5)])
        for op in ("Transpose", "Reshape"):
            y = writer.dequantize(writer.quantize(y, SCALE, ZERO), SCALE, ZERO)
            y = (writer.node(op, [y], perm=[0, 2, 1, 3, 4]) if op == "Transpose"
                 else writer.node(op, [y, ints(writer, batch, 12, 4, 5)]))  # fmt: skip
    else:
        y = shuffled(writer, y, groups, batch, 12, 4, 5)
    graph = same(finish(writer, y, 4))
    order = np.arange(12).reshape(groups, -1).T.reshape(-1)
    assert [layer.channels for layer in graph.layers] == [tuple(order)]


def test_shuffles_that_cancel():
    writer = ModelWriter()
    y = shuffled(writer, shuffled(writer, image(writer, 1, 12, 4, 5), 3, 1, 12, 4, 5), 4, 1, 12, 4, 5)
    graph = same(finish(writer, y, 4))
    assert [type(layer) for layer in graph.layers] == [SfuOp]


def test_shuffle_between_convolutions_and_before_a_flatten():
    writer = ModelWriter()
    y = writer.node("Conv", [image(writer, 1, 4, 5, 5), weights(writer, 12, 4, 3, 3)])
    y = writer.dequantize(writer.quantize(y, 0.5, ZERO), 0.5, ZERO)
    y = writer.node("Conv", [shuffled(writer, y, 3, 1, 12, 3, 3), weights(writer, 8, 12, 1, 1)])
    y = writer.dequantize(writer.quantize(y, 3, ZERO), 3, ZERO)
    y = writer.node("Flatten", [shuffled(writer, y, 2, 1, 8, 3, 3)])
    y = writer.node("MatMul", [y, weights(writer, 72, 5)])
    graph = same(finish(writer, y, 2, scale=20))
    assert [type(layer) for layer in graph.layers] == [Conv, Select, Conv, Select, Conv]


def test_transpose_that_moves_data_is_refused():
    writer = ModelWriter()
    y = writer.node("Transpose", [image(writer, 1, 4, 4, 4)], "turn", perm=[0, 2, 1, 3])
    y = writer.node("Conv", [y, weights(writer, 8, 4, 3, 3)])
    y = writer.dequantize(writer.quantize(y, 0.5, ZERO), 0.5, ZERO)
    y = writer.node("Transpose", [y], perm=[0, 2, 1, 3])
    error = refused(finish(writer, writer.node("Conv", [y, weights(writer, 8, 2, 1, 1)], "late"), 4))
    assert "a Reshape or Transpose between layers that moves data is not supported" in str(error)


def test_shape_arithmetic():
    """Reshape to [Shape(x)[0], -1], as PyTorch exports a flattening; Expand and ConstantOfShape of constants."""
    writer = ModelWriter()
    x = image(writer, "n", 3, 4, 4)
    y = writer.node("Conv", [x, weights(writer, 8, 3, 3, 3)])
    y = writer.node("Dropout", [writer.dequantize(writer.quantize(y, 0.5, ZERO), 0.5, ZERO)])
    first = writer.node("Gather", [writer.node("Shape", [y]), writer.constant(np.int64(0))], axis=0)
    first = writer.node("Cast", [writer.node("Cast", [first], to=1)], to=7)
    rest = writer.node("ConstantOfShape", [ints(writer, 1)], value=helper.make_tensor("v", 7, [1], [-1]))
    shape = writer.node("Concat", [writer.node("Unsqueeze", [first, ints(writer, 0)]), rest], axis=0)
    y = writer.node("Reshape", [y, writer.node("Identity", [shape])])
    bias = writer.constant(np.array([7], np.int32))
    bias = writer.node("Expand", [bias, ints(writer, 6)])
    bias = writer.dequantize(bias, np.float32(0.5) * np.float32(0.01), np.int32(0))
    y = writer.node("Gemm", [y, weights(writer, 32, 6), bias])
    graph = same(finish(writer, y, 2, scale=9), batch=3)
    assert [type(layer) for layer in graph.layers] == [Conv, Conv]
    assert (graph.layers[1].bias == 7).all()


def test_outputs_that_are_views_and_read_further():
    writer = ModelWriter()
    q = writer.quantize(writer.node("Conv", [image(writer, 2, 3, 4, 4), weights(writer, 8, 3, 3, 3)]), 0.5, ZERO)
    real = writer.dequantize(q, 0.5, ZERO)
    writer.output(q, np.uint8, list("abcd"))
    writer.output(writer.node("Transpose", [real], perm=[0, 2, 3, 1]), np.float32, list("efgh"))
    writer.output(writer.node("Flatten", [q]), np.uint8, ["i", "j"])
    again = writer.quantize(writer.node("Conv", [real, weights(writer, 4, 8, 1, 1)]), 2, ZERO)
    writer.output(again, np.uint8, list("klmn"))
    graph = same(writer.model())
    assert [type(layer) for layer in graph.layers] == [Conv, Conv]


def test_an_input_that_is_an_output():
    writer = ModelWriter()
    x = image(writer, 2, 3, 4, 4)
    writer.output(writer.node("Transpose", [x], perm=[0, 2, 3, 1]), np.float32, list("abcd"))
    writer.output(
        writer.quantize(writer.node("Conv", [x, weights(writer, 8, 3, 3, 3)]), 0.5, ZERO), np.uint8, list("efgh")
    )
    assert [type(layer) for layer in same(writer.model()).layers] == [Conv, SfuOp]


def test_nodes_in_any_order():
    writer = ModelWriter()
    y = writer.node("Conv", [image(writer, 1, 3, 4, 4), weights(writer, 8, 3, 3, 3)])
    model = onnx.load_model_from_string(finish(writer, y, 4, 0.5))
    nodes = list(model.graph.node)
    expected = same(model.SerializeToString())
    for _ in range(5):
        del model.graph.node[:]
        model.graph.node.extend(nodes[i] for i in RNG.permutation(len(nodes)))
        graph = import_model(model.SerializeToString())
        assert [layer.name for layer in graph.layers] == [layer.name for layer in expected.layers]
    assert any(a is not b for a, b in pairwise(nodes))


@pytest.mark.parametrize("batch", [1, 2])
def test_rows_of_an_image_with_channels_last(batch):
    """As in ConvNeXt, behind a normalization on the host: a Gemm of pixels, added to an image with channels first."""
    writer = ModelWriter(17)
    pixels = writer.node("Reshape", [image(writer, batch, 4, 5, 6, name="pixels"), ints(writer, batch * 20, 6)])
    y = writer.quantize(writer.node("Gemm", [pixels, weights(writer, 6, 3)]), 0.1, ZERO)
    y = writer.node("Reshape", [writer.dequantize(y, 0.1, ZERO), ints(writer, batch, 4, 5, 3)])
    y = writer.node("Transpose", [y], perm=[0, 3, 1, 2])
    total = writer.node("Add", [image(writer, batch, 3, 4, 5, name="residual"), y])
    graph = same(finish(writer, total, 4, 0.13), within=1)
    assert graph.values["pixels"].dims == (batch, 6, 4, 5)


# Views of constants


def viewed(writer: ModelWriter, x: str, op: str, argument) -> str:
    """`x` behind a view: a Reshape to a shape, a Transpose, an Unsqueeze, Squeeze or Flatten at axes, an Identity."""
    match op:
        case "Transpose":
            return writer.node(op, [x], perm=argument)
        case "Flatten":
            return writer.node(op, [x], axis=argument)
        case "Identity":
            return writer.node(op, [x])
    return writer.node(op, [x, ints(writer, *argument)])


def scaled_weights(writer: ModelWriter, shape: tuple[int, ...], axis: int) -> str:
    """Weights with a scale for each index of an axis."""
    scales = RNG.uniform(0.005, 0.02, shape[axis]).astype(np.float32)
    values = writer.constant(RNG.integers(-128, 128, shape).astype(np.int8))
    return writer.dequantize(values, scales, np.zeros(shape[axis], np.int8), axis=axis)


@pytest.mark.parametrize(("shape", "axis", "views"), [
    ((4, 6), 0, [("Unsqueeze", (2, 3))]),
    ((4, 6), -2, [("Reshape", (4, 6, 1, 1))]),
    ((4, 6), 0, [("Reshape", (0, -1, 1, 1))]),
    ((6, 4), 1, [("Transpose", [1, 0]), ("Unsqueeze", (2, 3)), ("Identity", ())]),
    ((1, 4, 6, 1, 1), 1, [("Squeeze", (0,))]),
    ((4, 6, 1, 1), 0, [("Flatten", 1), ("Unsqueeze", (-1, -2))]),
    ((1, 6, 4), 2, [("Flatten", 2), ("Transpose", [1, 0]), ("Reshape", (4, 6, 1, 1))]),
    ((4, 3, 2), 0, [("Reshape", (4, 6, 1, 1))]),
])  # fmt: skip
def test_views_of_weights_with_scales(shape, axis, views):
    """The axis of the scales stays an axis: they are weights as they are."""
    writer = ModelWriter()
    w = scaled_weights(writer, shape, axis)
    for op, argument in views:
        w = viewed(writer, w, op, argument)
    (layer,) = same(finish(writer, writer.node("Conv", [image(writer, 1, 6, 5, 4), w]), 4, scale=0.5)).layers
    assert isinstance(layer, Conv)
    assert len(set(layer.scale.tolist())) == 4


@pytest.mark.parametrize(("shape", "axis", "view"), [((2, 2, 6), 1, (4, 6, 1, 1)), ((24,), 0, (4, 6, 1, 1))])
def test_views_that_leave_no_axis_for_the_scales(shape, axis, view):
    """The host has the real weights."""
    writer = ModelWriter()
    w = viewed(writer, scaled_weights(writer, shape, axis), "Reshape", view)
    error = refused(finish(writer, writer.node("Conv", [image(writer, 1, 6, 5, 4), w], "conv"), 4))
    assert "Conv 'conv': weights must be a dequantized int8 constant, not a float32 constant" in str(error)


def test_a_view_of_a_bias_with_scales():
    writer = ModelWriter()
    w = scaled_weights(writer, (4, 6, 1, 1), 0)
    scales = np.linspace(0.001, 0.01, 4).astype(np.float32)
    stored = writer.constant(np.array([[-300], [20], [77], [1000]], np.int32))
    bias = viewed(writer, writer.dequantize(stored, scales, np.zeros(4, np.int32), axis=0), "Reshape", (-1,))
    model = finish(writer, writer.node("Conv", [image(writer, 1, 6, 5, 4), w, bias]), 4, scale=0.5)
    same(model, within=1)


def test_a_constant_that_is_quantized_again():
    """Of dequantized integers, as converters leave weights."""
    writer = ModelWriter()
    w = writer.quantize(scaled_weights(writer, (4, 6, 1, 1), 0), 0.011, np.int8(0))
    y = writer.node("Conv", [image(writer, 1, 6, 5, 4), writer.dequantize(w, 0.011, np.int8(0))])
    same(finish(writer, y, 4, scale=0.5))


def test_a_constant_of_no_elements_is_not_divided_by():
    writer = ModelWriter()
    empty = writer.node("Reshape", [writer.constant(np.zeros((0, 3), np.float32)), ints(writer, 0, -1)], "empty")
    error = refused(finish(writer, writer.node("Add", [image(writer, 1, 3), empty]), 2))
    assert "Reshape 'empty': shape must not be empty, as (0, 3) to [0, -1] is" in str(error)
