"""Models as they come: of ONNX Runtime's quantizer in both its formats, of PyTorch exports, of TFLite conversions."""

import logging
from itertools import product

import numpy as np
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Concat, Conv, Graph, SfuOp
from systolith.sim.golden import golden
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter

RNG = np.random.default_rng(11)
SHAPE = (1, 4, 8, 8)


def within_one_step(graph: Graph, model: bytes, inputs: dict[str, np.ndarray], share: float = 0.02) -> None:
    """Golden and ONNX Runtime differ by at most one step of the output, and in few places."""
    mine, theirs = golden.run(graph, inputs), reference.run(model, inputs)
    assert mine.keys() == theirs.keys()
    for port in graph.outputs:
        step = graph.values[port.value].scale if port.dtype == "float32" else 1
        difference = np.abs(mine[port.name].astype(float) - theirs[port.name].astype(float)) / step
        print(port.name, (difference > 0.5).mean())
        assert reference.saturates() or (difference.max() < 1.5 and (difference > 0.5).mean() <= share)


# ONNX Runtime's quantizer


class _Calibration(CalibrationDataReader):
    def __init__(self):
        self.samples = iter([{"x": RNG.normal(0, 1, SHAPE).astype(np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.samples, {})


class FloatWriter(ModelWriter):
    """Writes float32 layers with random weights."""

    def random(self, *shape: int) -> str:
        return self.constant((RNG.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def conv(self, x: str, outputs: int, inputs: int, kernel: int = 3, **attributes) -> str:
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.node("Conv", [x, self.random(outputs, inputs, kernel, kernel), self.random(outputs)], **attributes)

    def finish(self, y: str, *shape: int | str) -> bytes:
        self.output(y, np.float32, shape)
        return self.model()


def branches(w: FloatWriter, x: str) -> bytes:
    """Inception: branches that Concat joins, with a tensor twice."""
    one, three = w.node("Relu", [w.conv(x, 8, 4, 1)]), w.node("Relu", [w.conv(x, 12, 4)])
    y = w.node("Concat", [one, three, one], axis=1)
    return w.finish(w.conv(y, 6, 28), "n", 6, 8, 8)


def shuffled(w: FloatWriter, x: str) -> bytes:
    """ShuffleNet: channel shuffle by Reshape and Transpose, Split, Concat."""
    y = w.node("Relu", [w.conv(x, 12, 4)])
    y = w.node("Reshape", [y, w.ints(1, 2, 6, 8, 8)])
    y = w.node("Reshape", [w.node("Transpose", [y], perm=[0, 2, 1, 3, 4]), w.ints(1, 12, 8, 8)])
    w.nodes.append(helper.make_node("Split", [y, w.ints(6, 6)], ["left", "right"], "split", axis=1))
    y = w.node("Concat", ["left", w.node("Relu", [w.conv("right", 6, 6)])], axis=1)
    return w.finish(w.conv(y, 6, 12), 1, 6, 8, 8)


def up_and_down(w: FloatWriter, x: str) -> bytes:
    """U-Net: strides and ConvTranspose, joined with what was there before."""
    first = w.node("Relu", [w.conv(x, 8, 4)])
    down = w.node("Relu", [w.conv(first, 16, 8, strides=[2, 2])])
    up = w.node("ConvTranspose", [down, w.random(16, 8, 2, 2), w.random(8)], strides=[2, 2])
    return w.finish(w.conv(w.node("Concat", [first, up], axis=1), 3, 16), "n", 3, 8, 8)


def upsampled(w: FloatWriter, x: str) -> bytes:
    first = w.node("Relu", [w.conv(x, 8, 4)])
    down = w.node("Relu", [w.conv(first, 16, 8, strides=[2, 2])])
    near = w.node("Resize", [down, "", w.constant(np.array([1, 1, 2, 2], np.float32))], mode="nearest",
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    return w.finish(w.conv(w.node("Concat", [first, near], axis=1), 3, 24), "n", 3, 8, 8)


def padded(w: FloatWriter, x: str) -> bytes:
    """Pad and Slice around convolutions, then a flattening by computed shape and a dense layer."""
    y = w.node("Relu", [w.conv(x, 8, 4, pads=[0, 0, 0, 0])])
    y = w.node("Pad", [y, w.ints(0, 0, 1, 1, 0, 0, 2, 2), w.constant(np.float32(0))])
    y = w.node("Relu", [w.conv(y, 8, 8, pads=[0, 0, 0, 0])])
    y = w.node("Slice", [y, w.ints(2, 1), w.ints(6, 5), w.ints(1, 2)])
    batch = w.node("Unsqueeze", [w.node("Gather", [w.node("Shape", [y]), w.constant(np.int64(0))]), w.ints(0)])
    y = w.node("Reshape", [y, w.node("Concat", [batch, w.ints(-1)], axis=0)])
    return w.finish(w.node("Gemm", [y, w.random(112, 10), w.random(10)]), "n", 10)


@pytest.mark.parametrize(("build", "form"), [
    *product([branches, shuffled, upsampled, padded], QuantFormat),
    (up_and_down, QuantFormat.QDQ)])  # fmt: skip
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
def test_quantizer(tmp_path, caplog, build, form, activations):
    writer = FloatWriter(17)
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(build(writer, writer.input("x", np.float32, SHAPE)))
    with caplog.at_level(logging.ERROR):
        quantize_static(source, target, _Calibration(), quant_format=form, activation_type=activations,
                        weight_type=QuantType.QInt8, per_channel=form == QuantFormat.QDQ)  # fmt: skip
    model = target.read_bytes()
    x = {"x": RNG.normal(0, 1, SHAPE).astype(np.float32)}
    within_one_step(import_model(model), model, x)


# PyTorch: fake quantization of everything, weights by a QuantizeLinear of float constants, names with slashes


class TorchWriter(ModelWriter):
    def fake(self, x: str, name: str, scale: float, zero_point: int = 0, **attributes) -> str:
        """QuantizeLinear and DequantizeLinear, as torch.ao.quantization exports them."""
        zeros = np.full(np.shape(scale), zero_point, np.int8)
        parameters = [self.constant(values, f"{name}/Constant") for values in (np.asarray(scale, np.float32), zeros)]
        x = self.node("QuantizeLinear", [x, *parameters], f"{name}/QuantizeLinear", **attributes)
        return self.node("DequantizeLinear", [x, *parameters], f"{name}/DequantizeLinear", **attributes)

    def conv(self, x: str, name: str, outputs: int, inputs: int, scale: float, **attributes) -> str:
        values = RNG.normal(0, 0.3, (outputs, inputs, 3, 3)).astype(np.float32)
        weights = self.fake(self.constant(values, as_node=True), f"{name}/weight_quant",
                            np.abs(values).max((1, 2, 3)) / 127, axis=0)  # fmt: skip
        bias = self.constant(RNG.normal(0, 0.3, outputs).astype(np.float32), f"{name}.bias")
        y = self.node("Relu", [self.node("Conv", [x, weights, bias], f"{name}/Conv", **attributes)], f"{name}/relu")
        return self.fake(y, f"{name}/activation_post_process", scale, -128)


def test_pytorch():
    writer = TorchWriter(13)
    x = writer.fake(writer.input("input.1", np.float32, ("batch", 3, 12, 12)), "/quant", 0.03, 4)
    y = writer.conv(x, "/layer1/layer1.0", 8, 3, 0.02, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    z = writer.conv(y, "/layer2", 8, 8, 0.04, strides=[2, 2])
    shape = writer.node("Shape", [z], "/Shape")
    first = writer.node("Gather", [shape, writer.constant(np.int64(0), as_node=True)], "/Gather", axis=0)
    both = [writer.node("Unsqueeze", [name, writer.constant(np.array([0], np.int64))], f"/Unsqueeze_{i}")
            for i, name in enumerate([first, writer.constant(np.int64(-1), as_node=True)])]  # fmt: skip
    flat = writer.node("Reshape", [z, writer.node("Concat", both, "/Concat", axis=0)], "/Reshape")
    flat = writer.fake(flat, "/flatten/post", 0.04, -128)
    values = RNG.normal(0, 0.1, (5, 200)).astype(np.float32)
    weights = writer.fake(writer.constant(values), "/fc/weight_quant", float(np.abs(values).max() / 127))
    y = writer.node("Gemm", [flat, weights, writer.constant(np.ones(5, np.float32), "fc.bias")], "/fc/Gemm", transB=1)
    writer.output(writer.fake(y, "/dequant", 0.05), np.float32, ("batch", 5))
    graph = import_model(writer.model(), batch=2)
    assert [type(layer) for layer in graph.layers] == [Conv, Conv, Conv]
    assert [layer.name for layer in graph.layers] == ["/layer1/layer1.0/Conv", "/layer2/Conv", "/fc/Gemm"]
    assert graph.inputs[0].dtype == graph.outputs[0].dtype == "float32"
    within_one_step(graph, writer.model(), {"input.1": RNG.normal(0, 1, (2, 3, 12, 12)).astype(np.float32)})


# TFLite: NHWC ports behind Transposes, MatMul and Add, bias for each channel, names with semicolons


def tflite_conv(writer: ModelWriter, x: str, x_scale: float, name: str, inputs: int, outputs: int, **attributes) -> str:
    scales = RNG.uniform(0.002, 0.01, outputs).astype(np.float32)
    w = writer.constant(RNG.integers(-127, 128, (outputs, inputs, 3, 3)).astype(np.int8), f"{name}/Conv2D")
    w = writer.dequantize(w, scales, np.zeros(outputs, np.int8), axis=0)
    bias = writer.constant(RNG.integers(-900, 900, outputs).astype(np.int32), f"{name}/BiasAdd;{name}/Conv2D")
    unit = np.float32(x_scale) * scales
    bias = writer.dequantize(bias, unit, np.zeros(outputs, np.int32), axis=0)
    return writer.node("Conv", [x, w, bias], f"{name}/Conv2D;{name}/BiasAdd_{len(writer.nodes)}", **attributes)


def test_tflite():
    writer = ModelWriter(13)
    x = writer.input("serving_default_input:0", np.int8, ("unk__259", 10, 9, 3))
    x = writer.dequantize(writer.node("Transpose", [x], "x__7", perm=[0, 3, 1, 2]), 0.02, np.int8(-1))
    y = writer.node("Relu", [tflite_conv(writer, x, 0.02, "model/conv2d", 3, 8, auto_pad="SAME_UPPER", strides=[2, 2])])
    y = writer.dequantize(writer.quantize(y, 0.05, np.int8(-128)), 0.05, np.int8(-128))
    z = tflite_conv(writer, y, 0.05, "model/conv2d_1", 8, 8, pads=[1, 1, 1, 1])
    z = writer.dequantize(writer.quantize(z, 0.04, np.int8(5)), 0.04, np.int8(5))
    both = writer.node("Concat", [y, z], "model/concatenate/concat", axis=1)
    both = writer.dequantize(writer.quantize(both, 0.06, np.int8(-40)), 0.06, np.int8(-40))
    last = writer.node("Reshape", [writer.node("Transpose", [both], perm=[0, 2, 3, 1]),
                                   writer.constant(np.array([-1, 400], np.int64))])  # fmt: skip
    w = writer.dequantize(writer.constant(RNG.integers(-127, 128, (400, 6)).astype(np.int8)), 0.004, np.int8(0))
    bias = writer.dequantize(writer.constant(RNG.integers(-900, 900, 6).astype(np.int32)),
                             np.float32(0.06) * np.float32(0.004), np.int32(0))  # fmt: skip
    y = writer.node("Add", [writer.node("MatMul", [last, w], "model/dense/MatMul"), bias], "model/dense/BiasAdd")
    writer.output(writer.quantize(y, 0.3, np.int8(7)), np.int8, ("unk__260", 6))
    writer.output(writer.node("Transpose", [writer.quantize(z, 0.04, np.int8(5))], "nhwc", perm=[0, 2, 3, 1]), np.int8,
                  ("unk__261", 5, 5, 8))  # fmt: skip
    graph = import_model(writer.model(), batch=2)
    assert [type(layer) for layer in graph.layers] == [Conv, Conv, SfuOp, SfuOp, Concat, Conv]
    assert graph.values["serving_default_input:0"].dims == (2, 3, 10, 9)
    inputs = {"serving_default_input:0": RNG.integers(-128, 128, (2, 10, 9, 3)).astype(np.int8)}
    within_one_step(graph, writer.model(), inputs)
