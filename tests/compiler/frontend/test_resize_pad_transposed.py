"""Pad, Resize and ConvTranspose: what the front end makes of them equals ONNX Runtime."""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Conv, SfuOp
from systolith.errors import UnsupportedError
from systolith.sim.golden import golden
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.seeds import each_seed, many, seeds
from tests.support.small_models import SCALE, finish, image, ints, refused, same, weights

# Pad


@pytest.mark.parametrize(
    ("pads", "kinds"),
    [
        ([0, 0, 1, 2, 0, 0, 3, 4], [SfuOp]),
        ([0, 0, -1, 2, 0, 0, 3, -2], [SfuOp]),
        ([0, 0, 0, 0, 0, 0, 0, 0], [SfuOp]),
        ([0, 2, 0, 0, 0, 3, 0, 0], [Conv]),
        ([0, -1, -1, 1, 0, 3, 1, 0], [SfuOp, Conv]),
        ([0, -1, 0, 0, 0, -2, 0, 0], [Conv]),
    ],
)
@pytest.mark.parametrize("value", [None, 0.0, np.float32(-7 * np.float32(SCALE))])
def test_pad(pads, kinds, value):
    writer = ModelWriter()
    inputs = [image(writer, 2, 5, 6, 7), ints(writer, *pads)]
    if value is not None:
        inputs.append(writer.constant(np.float32(value)))
    graph = same(finish(writer, writer.node("Pad", inputs), 4))
    assert [type(layer) for layer in graph.layers] == kinds


def test_pad_of_integers_and_of_chosen_axes():
    writer = ModelWriter(18)
    x = writer.input("x", np.uint8, (1, 2, 3, 4))
    y = writer.node("Pad", [x, ints(writer, 1, 0, 2, 1), writer.constant(np.uint8(250)), ints(writer, -1, 2)])
    writer.output(y, np.uint8, list("abcd"))
    graph = same(writer.model())
    assert graph.layers[0].window.pads == (0, 1, 1, 2)
    assert graph.layers[0].pad == 250 - 128


@pytest.mark.parametrize(("pads", "value", "attributes", "message"), [
    ([0, 0, 1, 1, 0, 0, 1, 1], 0.012, {}, "input 'constant_value' must be a value of the quantized tensor"),
    ([0, 0, 1, 1, 0, 0, 1, 1], -np.inf, {}, "not -inf"), ([0, 0, 1, 1, 0, 0, 1, 1], 20, {}, "not 20.0"),
    ([0, 0, 1, 1, 0, 0, 1, 1], 0, {"mode": "edge"}, "attribute 'mode' must be 'constant', not 'edge'"),
    ([1, 0, 1, 1, 0, 0, 1, 1], 0, {}, "pads of the batch must be 0, not [1, 0]"),
    ([0, 0, -3, 0, 0, 0, -2, 0], 0, {}, "pads must keep something of axis 2, not [-3, -2]")])  # fmt: skip
def test_what_a_host_must_pad(pads, value, attributes, message):
    writer = ModelWriter()
    inputs = [image(writer, 1, 2, 5, 5), ints(writer, *pads), writer.constant(np.float32(value))]
    error = refused(finish(writer, writer.node("Pad", inputs, "pad", **attributes), 4))
    assert error.node == "pad_out"
    assert message in str(error)


# Resize

MODES = [
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "half_pixel_symmetric",
]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_resize(mode, rounding):
    """What the front end takes equals ONNX Runtime; what it leaves to a host has some reason."""
    taken = 0
    for size, resized in [(4, 8), (4, 12), (5, 5), (6, 3), (9, 3), (8, 2), (1, 4), (5, 1), (3, 4), (4, 6), (7, 3)]:
        opset = 13 if mode == "tf_half_pixel_for_nn" else 19
        if mode == "tf_half_pixel_for_nn":
            opset = 11
        for by_size in (False, True):
            writer = ModelWriter(opset)
            x = image(writer, 1, 2, size, 3)
            roi = writer.constant(np.zeros(0, np.float32))
            if by_size:
                given = [
                    x,
                    roi,
                    writer.constant(np.zeros(0, np.float32)) if opset == 11 else "",
                    ints(writer, 1, 2, resized, 6),
                ]
            else:
                given = [x, roi, writer.constant(np.array([1, 1, resized / size, 2], np.float32))]
            attributes = {"coordinate_transformation_mode": mode, "nearest_mode": rounding}
            model = finish(writer, writer.node("Resize", given, **attributes), 4)
            try:
                same(model)
                taken += 1
            except UnsupportedError as error:
                assert "each index of axis" in str(error)
    if mode == "asymmetric" and rounding == "floor":
        assert taken >= 14


@pytest.mark.parametrize(("shape", "copies"), [((1, 3, 4, 5), (2, 2)), ((2, 3, 4, 5), (3, 1)), ((1, 3, 2, 2), (4, 8))])
def test_resize_makes_copies(shape, copies):
    writer = ModelWriter(10)
    y = writer.node("Resize", [image(writer, *shape), writer.constant(np.array([1, 1, *copies], np.float32))])
    graph = same(finish(writer, y, 4))
    assert len(graph.layers) == copies[0] * copies[1]
    assert {graph.values[layer.output].inside.whole for layer in graph.layers} == {y}


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(("shape", "sizes", "layers"), [
    ((1, 3, 1, 1), (2, 3), 6), ((2, 3, 1, 1), (16, 24), 24 + 16), ((1, 3, 1, 1), (33, 9), 21 + 15 + 1),
    ((1, 3, 1, 5), (13, 5), 7 + 2 + 1), ((1, 3, 1, 1), (64, 64), 128),
])  # fmt: skip
def test_one_pixel_becomes_many(shape, sizes, layers, mode):
    """As behind the global pool of an ASPP head; of one pixel every mode makes copies, in two steps if many."""
    writer = ModelWriter(13)
    given = [image(writer, *shape), "", "", writer.constant(np.array([*shape[:2], *sizes]))]
    graph = same(finish(writer, writer.node("Resize", given, mode=mode), 4))
    assert len(graph.layers) == layers


@pytest.mark.parametrize(("shape", "copies"), [((1, 3, 2, 3), (16, 1)), ((1, 2, 3, 2), (9, 12))])
def test_many_copies(shape, copies):
    writer = ModelWriter(10)
    y = writer.node("Resize", [image(writer, *shape), writer.constant(np.array([1, 1, *copies], np.float32))])
    same(finish(writer, y, 4))


@pytest.mark.parametrize(("scales", "attributes", "message"), [
    ([1, 1, 2, 2], {"mode": "linear"}, "attribute 'mode' must be 'nearest', but for axes of size 1, not"),
    ([1, 1, 1.1, 1], {"mode": "linear"}, "attribute 'mode' must be 'nearest', but for axes of size 1, not"),
    ([1, 1, 2, 2], {"mode": "cubic"}, "attribute 'mode' must be 'nearest', not 'cubic'"),
    ([1, 2, 1, 1], {}, "axis 1 must keep its size"), ([1, 1, 65, 1], {}, "at most 64 times as long, not 260 from 4"),
    *(([1, 1, scale, 1], {}, "each index of axis 2 must be copied equally often") for scale in (11, 16.75)),
    ([1, 1, 2, 2], {"coordinate_transformation_mode": "tf_crop_and_resize"}, "'tf_crop_and_resize' is not supported"),
    ([1, 1, 1.5, 2], {}, "each index of axis 2 must be copied equally often")])  # fmt: skip
def test_what_a_host_must_resize(scales, attributes, message):
    writer = ModelWriter()
    roi = writer.constant(np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32))
    given = [image(writer, 1, 2, 4, 4), roi, writer.constant(np.array(scales, np.float32))]
    error = refused(finish(writer, writer.node("Resize", given, "resize", **attributes), 4))
    assert error.node == "resize_out"
    assert message in str(error)


# ConvTranspose


def transposed(rng: np.random.Generator, within_channels=True) -> tuple[bytes, str]:
    """A random ConvTranspose, and what it is."""
    writer = ModelWriter()
    flat = rng.random() < 0.2
    rank = 1 if flat else 2
    groups = int(rng.choice([1, 1, 2, 3]))
    channels, outputs = groups * int(rng.integers(1, 5)), int(rng.integers(1, 5))
    kernel, strides = rng.integers(1, 6, rank), rng.integers(1, 5, rank)
    size = rng.integers(1, 6, rank)
    attributes = {"strides": strides.tolist(), "group": groups}
    extra = np.array([rng.integers(0, s) for s in strides])
    kind = rng.choice(["pads", "output_shape", "SAME_UPPER", "SAME_LOWER", "VALID"])
    full = (size - 1) * strides + kernel + extra
    if kind == "pads":
        pads = [
            int(rng.integers(0, min(k, (n + 1) // 2))) for k, n in zip([*kernel, *kernel], [*full, *full], strict=True)
        ]
        attributes |= {"pads": pads, "output_padding": extra.tolist()}
    elif kind == "output_shape":
        attributes |= {"output_shape": [int(rng.integers(max(1, n - 3), n + 1)) for n in (size - 1) * strides + kernel]}
    else:
        attributes |= {"auto_pad": str(kind)}
    x = image(writer, int(rng.integers(1, 3)), channels, *size.tolist())
    values = rng.integers(-127, 128, (channels, outputs, *kernel)).astype(np.int8)
    scale = rng.uniform(0.005, 0.02, outputs).astype(np.float32) if rng.random() < 0.5 else np.float32(0.01)
    axis = {"axis": 1} if scale.ndim else {}
    inputs = [x, writer.dequantize(writer.constant(values), scale, np.zeros(scale.shape, np.int8), **axis)]
    if rng.random() < 0.7:
        unit = np.float32(SCALE) * np.broadcast_to(scale, outputs)
        unit = np.tile(unit, groups)
        bias = rng.integers(-5000, 5000, outputs * groups).astype(np.int32)
        inputs.append(writer.dequantize(writer.constant(bias), unit, np.zeros(unit.shape, np.int32), axis=0))
    y = writer.node("ConvTranspose", inputs, **attributes)
    if rng.random() < 0.3:
        y = writer.node("Relu", [y])
    return finish(writer, y, rank + 2, 0.3, np.uint8(100)), f"{size} {kernel} {attributes}"


@seeds(60)
def test_transposed_convolution(seed):
    model, what = transposed(np.random.default_rng(seed))
    print(what)
    try:
        same(model, within=1)
    except UnsupportedError as error:
        assert "attribute 'output_shape' must be from" in str(error)


def test_transposed_convolution_is_few_steps_off():
    """ONNX Runtime computes it in float32: at most one step, and in few outputs."""
    wrong = total = 0
    for seed in each_seed(range(100, 100 + many(60))):
        rng = np.random.default_rng(seed)
        model, _ = transposed(rng)
        try:
            graph = import_model(model)
        except UnsupportedError:
            continue
        inputs = {port.name: rng.integers(0, 256, port.shape).astype(np.uint8) for port in graph.inputs}
        for mine, theirs in zip(golden.run(graph, inputs).values(), reference.run(model, inputs).values(), strict=True):
            wrong, total = wrong + int((mine != theirs).sum()), total + mine.size
    print(f"{wrong} of {total}")
    assert wrong <= total // 2000


def test_parts_of_a_transposed_convolution():
    writer = ModelWriter()
    x = image(writer, 1, 4, 5, 6)
    y = writer.node(
        "ConvTranspose",
        [x, weights(writer, 4, 8, 3, 1)],
        "up",
        strides=[2, 2],
        pads=[1, 0, 1, 0],
        output_padding=[1, 1],
    )
    graph = same(finish(writer, y, 4, 0.3), within=1)
    assert [(layer.name, layer.weights.shape[2:], layer.pads, layer.macs_of) for layer in graph.layers] == [
        ("up:0:0", (1, 1), (0, 0, 0, 0), None), ("up:0:1", (1, 1), (0, 0, 0, 0), 0),
        ("up:1:0", (2, 1), (0, 0, 1, 0), None), ("up:1:1", (2, 1), (0, 0, 1, 0), 0)]  # fmt: skip
    assert sum(layer.macs(graph) for layer in graph.layers) == 5 * 6 * 4 * 8 * 3


@pytest.mark.parametrize("dilation", [[1, 2], [3, 1], [2, 3]])
@pytest.mark.parametrize("stride", [[1, 1], [2, 1], [2, 3]])
def test_dilated_transposed_convolution(stride, dilation):
    """What lies between taps is no tap where a phase skips it, and no MAC where it does not."""
    writer = ModelWriter()
    x = image(writer, 1, 4, 5, 6)
    y = writer.node("ConvTranspose", [x, weights(writer, 4, 8, 3, 2)], strides=stride, dilations=dilation)
    graph = same(finish(writer, y, 4, 0.3), within=1)
    taps = sum(layer.macs(graph) / np.prod(graph.values[layer.output].dims[2:]) for layer in graph.layers) / (4 * 8)
    assert taps == 3 * 2


@pytest.mark.parametrize(("attributes", "message"), [
    ({"strides": [9, 1]}, "attribute 'strides' must be at most 8, not [9, 1]")])  # fmt: skip
def test_what_a_host_must_transpose(attributes, message):
    writer = ModelWriter()
    y = writer.node("ConvTranspose", [image(writer, 1, 4, 5, 6), weights(writer, 4, 8, 3, 3)], "up", **attributes)
    error = refused(finish(writer, y, 4))
    assert (error.node, str(error)) == ("up_out", f"model: ConvTranspose 'up': {message}")
