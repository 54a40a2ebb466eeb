"""What the front end makes of models: dims, layers, clamps, ports; also of what ONNX Runtime's quantizer writes."""

import logging

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from systolith.compiler.frontend.importer import import_model
from systolith.sim.golden import golden
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter

RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.integers(-128, 128, shape).astype(np.int8)


def image(writer: ModelWriter, shape=(1, 3, 8, 8), dtype=np.uint8, zero_point=130) -> str:
    """A quantized network input behind its DequantizeLinear."""
    return writer.dequantize(writer.input("x", dtype, shape), 0.02, dtype(zero_point))


def conv(writer: ModelWriter, x: str, shape=(5, 3, 3, 3), **attributes) -> str:
    w = writer.dequantize(writer.constant(weights(*shape)), 0.01, np.int8(0))
    return writer.node("Conv", [x, w], **attributes)


def finish(writer: ModelWriter, y: str, shape, scale=0.25, zero_point=120, dtype=np.uint8) -> bytes:
    writer.output(writer.quantize(y, scale, dtype(zero_point)), dtype, shape)
    return writer.model()


def same(model: bytes, batch: int = 1):
    """Import; check that golden and ONNX Runtime agree; give the graph."""
    graph = import_model(model, batch=batch)
    inputs = {port.name: RNG.integers(0, 256, port.shape).astype(np.uint8).view(port.dtype) for port in graph.inputs}
    mine, theirs = golden.run(graph, inputs), reference.run(model, inputs)
    assert mine.keys() == theirs.keys()
    if not reference.saturates():
        for name, expected in theirs.items():
            np.testing.assert_array_equal(mine[name], expected)
    return graph


def dims(graph) -> list[tuple[int, ...]]:
    return [graph.values[layer.output].dims for layer in graph.layers]


def test_uint8_is_carried_as_int8():
    writer = ModelWriter()
    graph = same(finish(writer, conv(writer, image(writer)), (1, 5, 6, 6)))
    assert graph.values["x"].zero_point == 130 - 128
    assert graph.values[graph.layers[0].output].zero_point == 120 - 128
    assert graph.inputs[0].dtype == graph.inputs[0].quantized == "uint8"
    np.testing.assert_array_equal(graph.layers[0].scale, np.float32(np.float32(0.02) * np.float32(0.01)) / 0.25)


@pytest.mark.parametrize(("zero_point", "low"), [(0, -128), (100, -28), (255, 127)])
def test_relu_becomes_a_clamp(zero_point, low):
    writer = ModelWriter()
    y = writer.node("Relu", [conv(writer, image(writer))])
    graph = import_model(finish(writer, y, (1, 5, 6, 6), zero_point=zero_point))
    assert (graph.layers[0].low, graph.layers[0].high) == (low, 127)


@pytest.mark.parametrize(("opset", "limits", "clamp"), [
    (10, (-2.0, 6.0), (-8 + 2, 24 + 2)), (13, (0.0, 6.0), (2, 26)), (13, (None, 1.0), (-128, 6)),
    (13, (-1e30, 1e30), (-128, 127)), (13, (-np.inf, np.inf), (-128, 127))])  # fmt: skip
def test_clip_becomes_a_clamp(opset, limits, clamp):
    writer = ModelWriter(opset)
    x = conv(writer, image(writer))
    if opset < 11:
        y = writer.node("Clip", [x], min=limits[0], max=limits[1])
    else:
        bounds = ["" if bound is None else writer.constant(np.float32(bound)) for bound in limits]
        y = writer.node("Clip", [x, *bounds])
    graph = import_model(finish(writer, y, (1, 5, 6, 6), zero_point=130))
    assert (graph.layers[0].low, graph.layers[0].high) == clamp


def test_relu_then_clip():
    """Limits add up: Clip(-1, 2) of Relu is [0, 2]; Relu of Clip(-3, -1) is 0."""
    for first, bounds, clamp in [("Relu", (-1, 2), (2, 10)), ("Clip", (-3, -1), (2, 2))]:
        writer = ModelWriter()
        y = conv(writer, image(writer))
        for op in (first, "Clip" if first == "Relu" else "Relu"):
            y = writer.node(op, [y, *(writer.constant(np.float32(b)) for b in bounds)] if op == "Clip" else [y])
        layer = import_model(finish(writer, y, (1, 5, 6, 6), zero_point=130)).layers[0]
        assert (layer.low, layer.high) == clamp


@pytest.mark.parametrize(("auto_pad", "pads"), [
    ("SAME_UPPER", (0, 1, 1, 1)), ("SAME_LOWER", (1, 1, 0, 1)), ("VALID", (0, 0, 0, 0))])  # fmt: skip
def test_auto_pad(auto_pad, pads):
    writer = ModelWriter()
    y = conv(writer, image(writer), (5, 3, 2, 3), auto_pad=auto_pad)
    shape = (1, 5, 8, 8) if auto_pad != "VALID" else (1, 5, 7, 6)
    assert same(finish(writer, y, shape)).layers[0].pads == pads


def test_one_dimensional_convolution():
    writer = ModelWriter()
    y = conv(writer, image(writer, (2, 3, 20)), (5, 3, 4), strides=[3], pads=[2, 1], dilations=[2])
    graph = same(finish(writer, y, (2, 5, 6)))
    assert graph.values["x"].dims == (2, 3, 1, 20)
    layer = graph.layers[0]
    assert (layer.weights.shape, layer.stride, layer.dilation, layer.pads) == (
        (5, 3, 1, 4),
        (1, 3),
        (1, 2),
        (0, 2, 0, 1),
    )
    assert dims(graph) == [(2, 5, 1, 6)]


@pytest.mark.parametrize(("channels", "outputs", "groups"), [(6, 6, 6), (6, 12, 6), (6, 4, 2), (9, 3, 3)])
def test_groups(channels, outputs, groups):
    writer = ModelWriter()
    y = conv(writer, image(writer, (1, channels, 8, 8)), (outputs, channels // groups, 3, 3), group=groups)
    graph = same(finish(writer, y, (1, outputs, 6, 6)))
    layer = graph.layers[0]
    assert (layer.groups, layer.weights.shape) == (groups, (outputs, channels // groups, 3, 3))
    assert layer.macs(graph) == outputs * channels // groups * 9 * 36


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_flatten_makes_a_whole_kernel(channels_last, batch):
    writer = ModelWriter()
    q = writer.quantize(conv(writer, image(writer, ("batch", 3, 8, 8))), 0.25, np.uint8(120))
    if channels_last:
        q = writer.node("Transpose", [q], perm=[0, 2, 3, 1])
    flat = writer.node("Flatten", [writer.dequantize(q, 0.25, np.uint8(120))])
    w = writer.dequantize(writer.constant(weights(7, 180)), 0.01, np.int8(0))
    zero = writer.dequantize(writer.constant(np.zeros(7, np.int32)), np.float32(0.25) * np.float32(0.01), np.int32(0))
    graph = same(finish(writer, writer.node("Gemm", [flat, w, zero], transB=1), ("batch", 7), scale=9), batch)
    assert graph.layers[1].weights.shape == (7, 5, 6, 6)
    assert dims(graph) == [(batch, 5, 6, 6), (batch, 7, 1, 1)]


def test_channels_last_network():
    """Transposes at both ends are the ports' business; a MatMul on channels last is a 1x1 convolution."""
    writer = ModelWriter()
    x = writer.node("Transpose", [writer.input("x", np.uint8, (2, 8, 9, 3))], perm=[0, 3, 1, 2])
    q = writer.quantize(conv(writer, writer.dequantize(x, 0.02, np.uint8(3))), 0.25, np.uint8(120))
    last = writer.node("Transpose", [q], perm=[0, 2, 3, 1])
    w = writer.dequantize(writer.constant(weights(5, 4)), 0.01, np.int8(0))
    y = writer.node("MatMul", [writer.dequantize(last, 0.25, np.uint8(120)), w])
    graph = same(finish(writer, y, (2, 6, 7, 4), scale=0.9))
    assert graph.values["x"].dims == (2, 3, 8, 9)
    assert graph.inputs[0].order == (0, 3, 1, 2)
    assert graph.outputs[0].order == (0, 3, 1, 2)
    assert dims(graph) == [(2, 5, 6, 7), (2, 4, 6, 7)]


@pytest.mark.parametrize(("shape", "order"), [((7, 6), (1, 0)), ((2, 7, 6), (2, 0, 1)), ((6,), (0,))])
def test_rows_of_a_matrix_are_pixels(shape, order):
    writer = ModelWriter()
    w = writer.dequantize(writer.constant(weights(6, 4)), 0.01, np.int8(0))
    graph = same(finish(writer, writer.node("MatMul", [image(writer, shape), w]), (*shape[:-1], 4)))
    rows = int(np.prod(shape[:-1]))
    assert graph.values["x"].dims == (1, 6, 1, rows)
    assert graph.inputs[0].order == order
    assert dims(graph) == [(1, 4, 1, rows)]


def test_branches_and_two_outputs():
    writer = ModelWriter()
    x = image(writer)
    first = writer.quantize(conv(writer, x), 0.25, np.uint8(120))
    second = writer.quantize(conv(writer, x, (2, 3, 1, 1)), 0.1, np.uint8(10))
    third = writer.quantize(conv(writer, writer.dequantize(first, 0.25, np.uint8(120)), (4, 5, 3, 3)), 3, np.uint8(99))
    writer.output(third, np.uint8, (1, 4, 4, 4))
    writer.output(writer.dequantize(second, 0.1, np.uint8(10)), np.float32, (1, 2, 8, 8))
    graph = same(writer.model())
    assert [port.dtype for port in graph.outputs] == ["uint8", "float32"]
    assert len(graph.layers) == 3


def test_what_no_output_needs_is_left_out():
    writer = ModelWriter()
    x = image(writer)
    y = conv(writer, x)
    writer.node("Softmax", [x], "unused")
    writer.quantize(conv(writer, x), 0.25, np.uint8(120))
    graph = same(finish(writer, y, (1, 5, 6, 6)))
    assert len(graph.layers) == 1
    assert "Softmax 'unused' is needed by no output" in graph.notes


def test_constants_are_folded():
    """Float weights behind QuantizeLinear, transposed, from a Constant node; a bias that an Add brings."""
    writer = ModelWriter()
    values = writer.constant(RNG.normal(0, 1, (4, 6)).astype(np.float32), as_node=True)
    scales, zeros = np.full(4, 0.01, np.float32), np.zeros(4, np.int8)
    w = writer.dequantize(writer.quantize(values, scales, zeros, axis=0), scales, zeros, axis=0)
    y = writer.node("MatMul", [image(writer, (5, 6)), writer.node("Transpose", [w])])
    unit = np.float32(0.02) * np.float32(0.01)
    bias = writer.dequantize(writer.constant(np.array([[1000, -7, 0, 500]], np.int32)), unit, np.int32(0))
    graph = same(finish(writer, writer.node("Add", [bias, y]), (5, 4)))
    np.testing.assert_array_equal(graph.layers[0].bias, [1000, -7, 0, 500])


def test_uint8_weights_around_128():
    writer = ModelWriter()
    w = writer.dequantize(writer.constant((weights(6, 4).astype(int) + 128).astype(np.uint8)), 0.01, np.uint8(128))
    graph = same(finish(writer, writer.node("MatMul", [image(writer, (5, 6)), w]), (5, 4)))
    assert graph.layers[0].weights.dtype == np.int8


def test_layers_have_different_names():
    writer = ModelWriter()
    q = writer.quantize(conv(writer, image(writer)), 0.25, np.uint8(120))
    model = onnx.load_model_from_string(
        finish(writer, conv(writer, writer.dequantize(q, 0.25, np.uint8(120)), (2, 5, 3, 3)), (1, 2, 4, 4))
    )
    for node in model.graph.node:
        node.name = "same"
    names = [layer.name for layer in import_model(model.SerializeToString()).layers]
    assert len(set(names)) == 2


def test_external_data_beside_the_model(tmp_path):
    writer = ModelWriter()
    model = onnx.load_model_from_string(finish(writer, conv(writer, image(writer)), (1, 5, 6, 6)))
    expected = import_model(model.SerializeToString()).layers[0].weights
    path = tmp_path / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    np.testing.assert_array_equal(import_model(path).layers[0].weights, expected)


class _Calibration(CalibrationDataReader):
    def __init__(self):
        self.samples = iter([{"x": RNG.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.samples, {})


def float_model() -> bytes:
    """Convolutions with Relu and Clip, a flattening, two dense layers; float32, batch unknown."""
    writer = ModelWriter(17)

    def constant(*shape):
        return writer.constant((RNG.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    x = writer.input("x", np.float32, ("batch", 3, 8, 8))
    x = writer.node("Relu", [writer.node("Conv", [x, constant(8, 3, 3, 3), constant(8)], pads=[1, 1, 1, 1])])
    x = writer.node("Conv", [x, constant(16, 8, 3, 3), constant(16)], pads=[1, 1, 1, 1], strides=[2, 2])
    x = writer.node("Clip", [x, writer.constant(np.float32(0)), writer.constant(np.float32(6))])
    x = writer.node("Gemm", [writer.node("Flatten", [x]), constant(10, 256), constant(10)], transB=1)
    writer.output(
        writer.node("Gemm", [writer.node("Relu", [x]), constant(10, 7), constant(7)]), np.float32, ("batch", 7)
    )
    return writer.model()


@pytest.mark.parametrize("form", list(QuantFormat))
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_models_of_onnx_runtime_quantizer(tmp_path, caplog, form, activations, per_channel):
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(float_model())
    with caplog.at_level(logging.ERROR):
        quantize_static(source, target, _Calibration(), quant_format=form, activation_type=activations,
                        weight_type=QuantType.QInt8, per_channel=per_channel)  # fmt: skip
    graph = import_model(target)
    assert len(graph.layers) == 4
    x = {"x": RNG.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)}
    if not reference.saturates():
        (y,), (expected,) = golden.run(graph, x).values(), reference.run(target.read_bytes(), x).values()
        np.testing.assert_array_equal(y, expected)
