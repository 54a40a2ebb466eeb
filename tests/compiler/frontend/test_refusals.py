"""Models that must be refused, each in one line that names file, node and attribute, and says what was expected."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.model.reader import read_model
from systolith.errors import SystolithError, UnsupportedError
from systolith.sim.stimulus.layers import random_layer
from systolith.sim.stimulus.model import Limits
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.seeds import seeds
from tests.support.split_models import MODELS

SMALL = Limits(channels=4, size=4, features=6, rows=4)


def refusal(source: Path | bytes, where: str | None = "net.onnx", batch: int = 1) -> str:
    """The message of the refusal, checked to be one line of reasonable length that starts with the file's name."""
    with pytest.raises(SystolithError) as error:
        import_model(source, where, batch)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def qlinear_conv(x_shape=(1, 4, 5, 5), w_shape=(2, 4, 3, 3), opset=13, **changes) -> onnx.ModelProto:
    """A model of one QLinearConv 'conv' with initializers that `changes` replaces; other changes are attributes."""
    constants = {
        "x_scale": np.float32(0.1), "x_zero_point": np.uint8(7), "w": np.ones(w_shape, np.int8),
        "w_scale": np.float32(0.1), "w_zero_point": np.int8(0), "y_scale": np.float32(0.1),
        "y_zero_point": np.uint8(9), "bias": np.zeros(w_shape[0], np.int32),
    }  # fmt: skip
    attributes = {name: value for name, value in changes.items() if name not in constants}
    constants |= {name: value for name, value in changes.items() if name in constants}
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], "conv", **attributes)
    graph = helper.make_graph(
        [node], "net", [helper.make_tensor_value_info("x", TensorProto.UINT8, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [None] * len(x_shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_the_model_these_start_from_is_good():
    assert len(import_model(qlinear_conv().SerializeToString()).layers) == 1


@pytest.mark.parametrize(("source", "message"), [
    (b"", "net.onnx: must be an ONNX model, not an empty file"),
    (b"Hello, world", "net.onnx: must be an ONNX model; this is no protocol buffer, or a truncated one (12 bytes)"),
    (qlinear_conv().SerializeToString()[:200], "this is no protocol buffer, or a truncated one (200 bytes)"),
    (b"\x08\x08", "must be an ONNX model with at least one node; found none")])  # fmt: skip
def test_not_onnx(source, message):
    assert message in refusal(source)


def test_unreadable_files(tmp_path):
    missing = tmp_path / "none.onnx"
    assert refusal(missing, where=None) == f"{missing}: cannot be read: No such file or directory"
    assert refusal(tmp_path, where=None) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize(("changes", "message"), [
    ({"group": 3}, "net.onnx: QLinearConv 'conv': attribute 'group' must divide 4 input and 2 output channels, not 3"),
    ({"group": 4}, "attribute 'group' must divide 4 input and 2 output channels, not 4"),
    ({"group": 0}, "attribute 'group' must divide 4 input and 2 output channels, not 0"),
    ({"group": -1}, "attribute 'group' must divide 4 input and 2 output channels, not -1"),
    ({"group": 2}, "weights must be for 2 input channels, not 4"),
    ({"x_shape": (1, 4, 5, 5, 5), "w_shape": (2, 4, 3, 3, 3)}, "input must have 3 or 4 dimensions (1-D or 2-D"),
    ({"w_shape": (2, 3, 3, 3)}, "weights must be for 4 input channels, not 3"),
    ({"kernel_shape": [2, 2]}, "attribute 'kernel_shape' must be [3, 3] as the weights are, not [2, 2]"),
    ({"strides": [0, 1]}, "attribute 'strides' must be 2 integers of at least 1, not [0, 1]"),
    ({"pads": [0, -1, 0, 0]}, "attribute 'pads' must be 4 integers of at least 0, not [0, -1, 0, 0]"),
    ({"dilations": [3, 1]}, "input with pads must be at least as large as the kernel, [7, 3], not [5, 5]"),
    ({"auto_pad": "SAME"}, "attribute 'auto_pad' must be one of NOTSET, SAME_UPPER, SAME_LOWER, VALID, not 'SAME'"),
    ({"auto_pad": "VALID", "pads": [1, 1, 1, 1]}, "attribute 'pads' must not be set together with auto_pad VALID"),
    ({"w_scale": np.ones(3, np.float32)}, "weights must have one scale or one for each of 2 outputs, not 3"),
    ({"x_scale": np.float32(0)},
     "QLinearConv 'conv': the scale of an activation must be a normal positive float32, not 0"),
    ({"w_scale": np.array([1, np.nan], np.float32)}, "weights must have finite scales of at least 0, not nan"),
    ({"w_scale": np.array([1, -0.5], np.float32)}, "weights must have finite scales of at least 0, not -0.5"),
    ({"y_scale": np.float32(np.inf)}, "the scale of an activation must be a normal positive float32, not inf"),
    ({"y_scale": np.float32(-1)}, "the scale of an activation must be a normal positive float32, not -1"),
    ({"y_scale": np.float32(1e-40)}, "the scale of an activation must be a normal positive float32, not 9.99995e-41"),
    ({"x_scale": np.float32(1e-30), "w_scale": np.float32(1e-30), "y_scale": np.float32(1e-30)},
     "x_scale * w_scale / y_scale must be a normal positive float32, not 0"),
    ({"y_scale": np.float32(2e-38), "x_scale": np.float32(1e10)},
     "x_scale * w_scale / y_scale must be a normal positive float32, not inf"),
    ({"w_scale": np.ones(3, np.float32), "w_zero_point": np.arange(3, dtype=np.int8)},
     "weights of shape (2, 4, 3, 3) must have one zero point or one for each index of axis 0"),
    ({"w_shape": (0, 4, 3, 3)}, "QLinearConv 'conv': weights must have at least one element, not shape (0, 4, 3, 3)"),
    ({"x_scale": np.ones(4, np.float32)}, "an activation must have one scale and zero point, not 4 and 1"),
    ({"bias": np.zeros(3, np.int32)}, "bias must be of shape (2,), not (3,)"),
    ({"bias": np.array([0, 2**31 - 1], np.int32)}, "QLinearConv 'conv': sums must fit int32 for every input"),
    ({"x_shape": (1, 2**17, 5, 5), "w": np.full((2, 2**17, 3, 3), 127, np.int8)}, "sums must fit int32 for every"),
    ({"pads": [2**20, 2**20, 0, 0]}, "must have at most 268435456 elements"),
    ({"x_shape": (1, 4, "height", 5)}, "input 'x' must have a fixed size in dimension 2 (only the first"),
    ({"x_shape": (1, 4, None, 5)}, "input 'x' must have a fixed size in dimension 2 (only the first"),
    ({"x_shape": (1, 0, 5, 5)}, "input 'x' must have elements, not size 0 in dimension 1"),
    ({"x_shape": (0, 4, 5, 5)}, "input 'x' must have elements, not size 0 in dimension 0"),
    ({"opset": 9}, "net.onnx: opset must be from 10 to"), ({"opset": 99}, "net.onnx: opset must be from 10 to"),
    ({"ceil_mode": 1}, "Unrecognized attribute: ceil_mode")])  # fmt: skip
def test_convolution(changes, message):
    assert message in refusal(qlinear_conv(**changes).SerializeToString())


def gemm(bias_scale=0.02, bias_zero_point=0, w_axis=0, bias=None, w_scale=0.1, **attributes) -> bytes:
    """DequantizeLinear -> Gemm 'gemm' -> QuantizeLinear, x [3, 4]."""
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.int8, (3, 4)), 0.2, np.int8(0))
    w_scale = np.asarray(w_scale, np.float32)
    axis = {"axis": w_axis} if w_scale.ndim else {}
    w = writer.dequantize(writer.constant(np.ones((4, 4), np.int8)), w_scale, np.zeros(w_scale.shape, np.int8), **axis)
    c = writer.dequantize(writer.constant(np.arange(4, dtype=np.int32)), bias_scale, np.int32(bias_zero_point))
    if bias is not None:
        c = writer.constant(bias)
    y = writer.node("Gemm", [x, w, c], "gemm", **attributes)
    writer.output(writer.quantize(y, 0.3, np.int8(1)), np.int8, (3, 4))
    return writer.model()


@pytest.mark.parametrize(("changes", "message"), [
    ({"transA": 1}, "net.onnx: Gemm 'gemm': weights must have 3 rows, not 4"),
    ({"alpha": float("nan")}, "Gemm 'gemm': attribute 'alpha' must be a finite number, not nan"),
    ({"w_scale": [0.1] * 4, "transB": 0}, "weights must have their scales along the output axis 1, not along 0"),
    ({"w_scale": [0.1] * 4, "transB": 1, "w_axis": 1}, "must have their scales along the output axis 0, not along 1"),
    ({"w_scale": [0.1] * 4, "w_axis": 7}, "attribute 'axis' must be from -2 to 1, not 7"),
    ({"bias": np.zeros((3, 4), np.float32)}, "one number, or one for each channel (1, 4), not (3, 4)"),
    ({"bias": np.full(4, np.nan, np.float32)}, "bias must be numbers; it has NaN")])  # fmt: skip
def test_gemm(changes, message):
    assert message in refusal(gemm(**changes))


def chain(nodes, x_shape=(1, 2, 3, 3), dtype=TensorProto.INT8) -> bytes:
    """A model of what `nodes(writer, x)` adds between an input of int8 and an output of `dtype`."""
    writer = ModelWriter(21)
    y = nodes(writer, writer.input("x", np.int8, x_shape))
    model = onnx.load_model_from_string(writer.model())
    output = helper.make_tensor_value_info(y, dtype, [None] * len(x_shape))
    model.graph.output.append(output)
    return model.SerializeToString()


def dequantized(writer: ModelWriter, x: str) -> str:
    return writer.dequantize(x, 0.1, np.int8(3))


def layer(writer: ModelWriter, x: str, name: str = "conv", rank: int = 2, channels: int = 2, kernel: int = 1) -> str:
    """A convolution without its QuantizeLinear."""
    w = writer.dequantize(writer.constant(np.ones((2, channels, *[kernel] * rank), np.int8)), 0.1, np.int8(0))
    return writer.node("Conv", [dequantized(writer, x), w], name)


def requantized(writer: ModelWriter, x: str, name: str = "conv", **arguments: int) -> str:
    return writer.quantize(layer(writer, x, name, **arguments), 0.1, np.int8(3))


def reshaped(writer: ModelWriter, x: str, *shape: int) -> str:
    return writer.node("Reshape", [x, writer.constant(np.array(shape, np.int64))], "shape")


@pytest.mark.parametrize(("nodes", "message"), [
    (lambda w, x: w.node("Softmax", [dequantized(w, x)], "soft"),
     "Softmax 'soft': operator Softmax is not supported"),
    (lambda w, x: w.node("QLinearSoftmax", [x] * 5, "soft", domain="com.microsoft"),
     "QLinearSoftmax 'soft': operator com.microsoft.QLinearSoftmax is not supported"),
    (lambda w, x: w.node("QLinearConv", [x] * 8, "conv", domain="com.microsoft"),
     "QLinearConv 'conv': operator com.microsoft.QLinearConv is not supported"),
    (lambda w, x: w.node("Add", [layer(w, x), dequantized(w, x)], "sum"),
     "Add 'sum': inputs must be constants and DequantizeLinear of 8-bit tensors, not the float32 result of Conv"),
    (lambda w, x: w.node("Relu", [dequantized(w, x)], "relu"),
     "Relu 'relu': output 'relu_out' must be an 8-bit tensor or its DequantizeLinear"),
    (layer, "must be an 8-bit tensor or its DequantizeLinear, not the float32 result of Conv 'conv'"),
    (lambda w, x: w.quantize(layer(w, x), -0.1, np.int8(3)), "must be a normal positive float32, not -0.1"),
    (lambda w, x: requantized(w, reshaped(w, x, 1, 2, 3, 3, 1), "deep", rank=3),
     "Conv 'deep': input must have 3 or 4 dimensions (1-D or 2-D convolution), not 5: (1, 2, 3, 3, 1)"),
    (lambda w, x: requantized(w, x, "large", kernel=4), "Conv 'large': input with pads must be at least as large as"),
    (lambda w, x: w.node("AveragePool", [dequantized(w, x)], "pool", kernel_shape=[2, 2], pads=[0, 0, 2, 0]),
     "AveragePool 'pool': attribute 'pads' must be smaller than the kernel"),
    (lambda w, x: w.node("Add", [dequantized(w, x), w.quantize(w.constant(np.ones(2, np.float32)), 0.0, np.int8(0))]),
     "scales to quantize a constant with must be positive and finite"),
    (lambda w, x: w.node("Conv", [layer(w, x), dequantized(w, x)], "second"),
     "Conv 'second': input 0 must be a dequantized 8-bit tensor, not the float32 result of Conv 'conv'"),
    (lambda w, x: w.node("Conv", [dequantized(w, x), dequantized(w, x)], "two"),
     "Conv 'two': weights must be a dequantized int8 constant, not a dequantized tensor"),
    (lambda w, x: w.node("Conv", [dequantized(w, x), w.constant(np.ones((2, 2, 1, 1), np.float32))], "f"),
     "Conv 'f': weights must be a dequantized int8 constant, not a float32 constant"),
    (lambda w, x: w.dequantize(requantized(w, x), 0.2, np.int8(3)), "input must have the scale 0.1"),
    (lambda w, x: w.dequantize(requantized(w, x), 0.1, np.int8(4)), "(as int8) zero point 3"),
    (lambda w, x: w.dequantize(requantized(w, x), [0.1, 0.2], np.array([3, 3], np.int8), axis=1),
     "an activation must have one scale and zero point, not 2 and 2"),
    (lambda w, x: w.dequantize(requantized(w, x), np.full((1, 2, 1, 3), 0.1), np.full((1, 2, 1, 3), 3, np.int8),
                               block_size=3), "attribute 'block_size' must be 0, not 3"),
    (lambda w, x: w.quantize(layer(w, x), 0.1, np.int16(3)), "an activation must be int8 or uint8, not int16"),
    (lambda w, x: w.node("Clip", [layer(w, x), w.constant(np.float32(2)), w.constant(np.float32(1))], "clip"),
     "Clip 'clip': limits must be min <= max, not 2.0 and 1.0"),
    (lambda w, x: w.node("Clip", [layer(w, x), w.constant(np.float32(np.nan))], "clip"),
     "input 'min' must be one float32"),
    (lambda w, x: requantized(w, reshaped(w, requantized(w, x), 1, 2, 9, 1), "second"),
     "Conv 'second': input must have batch, channels, height and width as 'quantizelinear_3_out' has them"),
    (lambda w, x: requantized(w, w.node("Transpose", [requantized(w, x)], perm=[0, 1, 3, 2]), "second"),
     "Conv 'second': input must have batch, channels, height and width"),
    (lambda w, x: requantized(w, reshaped(w, w.node("Transpose", [requantized(w, x)], perm=[0, 2, 1, 3]), 1, 6, 3),
                              "second", rank=1, channels=6),
     "Conv 'second': input must be a view of the tensor before it; this Reshape or Transpose moves data"),
    (lambda w, x: reshaped(w, w.node("Transpose", [requantized(w, x)], perm=[0, 2, 3, 1]), 1, 2, 9),
     "Reshape 'shape': shape (1, 3, 3, 2) to (1, 2, 9) must be a change of view; this one moves data"),
    (lambda w, x: reshaped(w, w.node("Transpose", [requantized(w, x)], perm=[0, 2, 3, 1]), 1, 18),
     "must be a permutation of what a layer makes; a Reshape that moves data is not supported")])  # fmt: skip
def test_what_a_host_can_run(nodes, message):
    """Whether the output is then float32 or int8, one of the two is valid ONNX, and unsupported for this reason."""
    errors = []
    for dtype in (TensorProto.INT8, TensorProto.FLOAT, TensorProto.INT16):
        with pytest.raises(SystolithError) as error:
            import_model(chain(nodes, dtype=dtype), "net.onnx")
        errors.append(error.value)
    found = [error for error in errors if message in str(error)]
    assert found, errors
    model = onnx.load_model_from_string(chain(nodes))
    for error in found:
        assert isinstance(error, UnsupportedError)
        assert error.node in {node.output[0] for node in model.graph.node}


@pytest.mark.parametrize(("nodes", "message"), [
    (lambda w, x: w.quantize(layer(w, x), 0.1, np.array([3, 3], np.int8)), "must have the shape of the scale, (), not"),
    (lambda w, x: w.quantize(x, 0.1, np.int8(3)), "input 'x' must be float32, not a tensor of int8"),
    (lambda w, x: w.dequantize(x, 0.1, np.uint8(3)), "input 'x_zero_point' must be int8 as the input is, not uint8"),
    (lambda w, x: w.node("Transpose", [x], perm=[0, 0, 1, 2]), "'perm' must be a permutation of 4 axes"),
    (lambda w, x: w.node("Flatten", [x], axis=5), "attribute 'axis' must be from -4 to 4, not 5"),
    (lambda w, x: w.node("Reshape", [x, w.constant(np.array([[1, 2, 9]]))]),
     "input 'shape' must have one dimension, not shape (1, 3)"),
    (lambda w, x: reshaped(w, x, 1, 2, 4, 3), "input 'shape' must keep the 18 elements of (1, 2, 3, 3), not [1, 2, 4,"),
    (lambda w, x: w.node("Squeeze", [x, w.constant(np.array([1], np.int64))]), "axes must have size 1, not [2]"),
    (lambda w, x: w.node("ConstantOfShape", [w.constant(np.array([2**40], np.int64))], "big"),
     "ConstantOfShape 'big': a constant must have fewer than 67108864 elements, not shape (1099511627776,)"),
    (lambda w, x: w.node("Gather", [w.constant(np.ones(3, np.float32)), w.constant(np.int64(7))], "gather"),
     "Gather 'gather': constants cannot be computed")])  # fmt: skip
def test_what_is_wrong(nodes, message):
    errors = []
    for dtype in (TensorProto.INT8, TensorProto.FLOAT):
        with pytest.raises(SystolithError) as error:
            import_model(chain(nodes, dtype=dtype), "net.onnx")
        errors.append(error.value)
    assert any(message in str(error) and not isinstance(error, UnsupportedError) for error in errors), errors


def test_int4_weights():
    model = qlinear_conv()
    node = helper.make_node("DequantizeLinear", ["w4", "w_scale"], ["wd"], "int4")
    tensor = helper.make_tensor("w4", TensorProto.INT4, [2, 2], [1, 2, 3, 4])
    x = helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero_point"], ["xd"])
    model = helper.make_model(
        helper.make_graph(
            [node, x, helper.make_node("MatMul", ["xd", "wd"], ["y"])], "net",
            [helper.make_tensor_value_info("x", TensorProto.UINT8, (3, 2))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (3, 2))], [tensor, *model.graph.initializer]),
        opset_imports=[helper.make_opsetid("", 21)], ir_version=10)  # fmt: skip
    assert "DequantizeLinear 'int4': input 'x' must be of 8 or 16 bits, or int32, not int4" in refusal(
        model.SerializeToString())  # fmt: skip


def test_graphs():
    """A missing initializer, a cycle, an unused input, a fixed batch, no outputs by a layer."""
    model = qlinear_conv()
    del model.graph.initializer[2]
    assert refusal(model.SerializeToString()) == (
        "net.onnx: QLinearConv 'conv': input 'w' must be made by a node, or be an initializer or a network input; "
        "it is none of these")  # fmt: skip

    model = qlinear_conv()
    model.graph.node[0].input[0] = "y"
    assert refusal(model.SerializeToString()) == (
        "net.onnx: nodes must not form a cycle; these do: QLinearConv 'conv'")  # fmt: skip

    model = qlinear_conv()
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.UINT8, (1, 2)))
    assert "net.onnx: input 'z' must be read by a layer" in refusal(model.SerializeToString())

    model = qlinear_conv().SerializeToString()
    assert "input 'x' has batch 1 fixed in the file; batch must be that, not 4" in refusal(model, batch=4)
    assert refusal(model, batch=0) == "net.onnx: batch must be at least 1, not 0"

    model = qlinear_conv()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT16
    assert "input 'x' must be float32, int8 or uint8, not int16" in refusal(model.SerializeToString())


def test_no_outputs():
    model = qlinear_conv()
    del model.graph.output[:]
    assert refusal(model.SerializeToString()) == "net.onnx: graph 'net' must have at least one output; it has none"


def test_the_type_of_an_output():
    """Of an operator whose types ONNX does not infer."""
    w = ModelWriter(17)
    x = w.input("x", np.uint8, (2, 3))
    parameters = [w.constant(value) for value in (np.float32(0.1), np.uint8(3))]
    w.output(w.node("QLinearSigmoid", [x, *parameters, *parameters], domain="com.microsoft"), np.int8, (2, 3))
    assert "must be uint8, as it is computed, not int8" in refusal(w.model())
    w.outputs[0].type.tensor_type.elem_type = 99
    assert "must be uint8, as it is computed, not 99" in refusal(w.model())


def test_a_transposed_convolution_without_weights():
    w = ModelWriter()
    x = w.dequantize(w.input("x", np.int8, (1, 4, 5, 5)), 0.1, np.int8(0))
    kernel = w.dequantize(w.constant(np.ones((4, 2, 3, 0), np.int8)), 0.1, np.int8(0))
    w.output(w.quantize(w.node("ConvTranspose", [x, kernel], "t"), 0.1, np.int8(0)), np.int8, (1, 2, 7, 4))
    assert "ConvTranspose 't': weights must have at least one element, not shape (4, 2, 3, 0)" in refusal(w.model())


@pytest.mark.parametrize("dilation", [4096, 2**31, 2**61])
def test_a_transposed_convolution_of_large_dilation(dilation):
    """Refused before its zeros are made."""
    w = ModelWriter()
    x = w.dequantize(w.input("x", np.int8, (1, 4, 5, 5)), 0.1, np.int8(0))
    kernel = w.dequantize(w.constant(np.ones((4, 2, 2, 2), np.int8)), 0.1, np.int8(0))
    y = w.node("ConvTranspose", [x, kernel], "t", dilations=[1, dilation])
    w.output(w.quantize(y, 0.1, np.int8(0)), np.int8, (1, 2, 6, "columns"))
    message = f"ConvTranspose 't': kernel with its dilations must be at most 4096 long, not [2, {dilation + 1}]"
    assert message in refusal(w.model())


def test_a_bias_of_another_type():
    assert "Gemm 'gemm': bias must be a dequantized or a float32 constant, not a int32 constant" in refusal(
        gemm(bias=np.arange(4, dtype=np.int32)))  # fmt: skip


def test_cycles():
    """The nodes of one are named; what leads to it is not."""
    model = qlinear_conv()
    for i in range(6):
        model.graph.node.append(helper.make_node("Relu", [f"r{(i - 1) % 6}"], [f"r{i}"], f"relu{i}"))
    model.graph.node.append(helper.make_node("Relu", ["r3"], ["end"], "end"))
    message = refusal(model.SerializeToString())
    assert message.startswith("net.onnx: nodes must not form a cycle; these do: Relu 'relu")
    assert message.endswith("and 2 more")
    assert "end" not in message


def test_names_that_are_there_twice():
    model = qlinear_conv()
    model.graph.node.append(helper.make_node("Identity", ["x"], ["y"], "again"))
    assert "Identity 'again': output 'y' must be a tensor of its own; another of that name exists" in refusal(
        model.SerializeToString())  # fmt: skip
    model = qlinear_conv()
    model.graph.node.append(helper.make_node("Identity", ["y"], ["x"], "again"))
    assert "Identity 'again': output 'x' must be a tensor of its own" in refusal(model.SerializeToString())
    model = qlinear_conv()
    model.graph.initializer.append(model.graph.initializer[0])
    assert "initializer 'x_scale' must be there once, not twice" in refusal(model.SerializeToString())
    model = qlinear_conv()
    model.graph.input.append(model.graph.input[0])
    assert "input 'x' must be there once, not twice" in refusal(model.SerializeToString())
    model = qlinear_conv()
    model.graph.output[0].name = "nothing"
    assert "output 'nothing' must be made by a node; none makes it" in refusal(model.SerializeToString())


@pytest.mark.parametrize("imported", [False, True])
def test_unknown_domain(imported):
    """ONNX Runtime could not run it either, so no host can."""
    model = qlinear_conv()
    model.graph.node[0].domain = "com.acme"
    if imported:
        model.opset_import.append(helper.make_opsetid("com.acme", 1))
    with pytest.raises(SystolithError) as error:
        import_model(model.SerializeToString(), "net.onnx")
    assert not isinstance(error.value, UnsupportedError)
    assert str(error.value).startswith(
        "net.onnx: QLinearConv 'conv': its domain must be one of ai.onnx, ai.onnx.ml, com.microsoft, or none, not"
    )


def test_external_data(tmp_path):
    """Outside the model's folder, missing, truncated, or without a folder."""
    path = tmp_path / "inner" / "model.onnx"
    path.parent.mkdir()
    onnx.save_model(qlinear_conv(), str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert len(import_model(path).layers) == 1
    assert "external data 'w.bin' needs the model's folder" in refusal(path.read_bytes())

    (path.parent / "w.bin").write_bytes(b"short")
    assert "model.onnx: initializer" in refusal(path, where=None)
    (path.parent / "w.bin").rename(tmp_path / "w.bin")
    assert "external data 'w.bin' must be a file beside the model; there is none" in refusal(path)

    model = onnx.load(path, load_external_data=False)
    for location in ("../w.bin", str(tmp_path / "w.bin")):
        for tensor in model.graph.initializer:
            tensor.external_data[0].value = location
        path.write_bytes(model.SerializeToString())
        assert f"external data '{location}' must lie in the model's folder" in refusal(path)
    (path.parent / "link.bin").symlink_to(tmp_path / "w.bin")
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "link.bin"
    path.write_bytes(model.SerializeToString())
    assert "external data 'link.bin' must lie in the model's folder" in refusal(path)


@pytest.mark.parametrize(("key", "value", "message"), [
    ("offset", "-1", "external data 'w.bin' cannot be read: External data offset must be non-negative"),
    ("offset", "one", "external data 'w.bin' cannot be read: invalid literal"),
    ("offset", "999", "external data 'w.bin' cannot be read: External data offset (999) exceeds file size"),
    ("length", "-1", "external data 'w.bin' cannot be read: External data length must be non-negative"),
    ("length", "", "external data 'w.bin' cannot be read: invalid literal"),
    ("length", "9", "external data 'w.bin' cannot be read: External data length (9) exceeds"),
    ("length", "999", "external data 'w.bin' must be at most 16 bytes for dimensions [], not 999"),
    ("location", "", "external data '' must lie in the model's folder"),
    ("location", "a\0b", "external data 'a\0b' must lie in the model's folder"),
    ("location", "a" * 300, "aaa' must be a file beside the model; there is none"),
    ("location", "loop", "external data 'loop' must lie in the model's folder"),
    ("location", ".", "external data '.' must be a file beside the model; there is none")])  # fmt: skip
def test_places_of_external_data(tmp_path, key, value, message):
    path = tmp_path / "model.onnx"
    onnx.save_model(qlinear_conv(), str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "loop").symlink_to("loop")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = value if entry.key == key else entry.value
    path.write_bytes(model.SerializeToString())
    assert message in refusal(path)


def test_external_data_of_a_huge_file(tmp_path):
    """Without a length, all of a file is read."""
    path = tmp_path / "model.onnx"
    onnx.save_model(qlinear_conv(), str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    del model.graph.initializer[0].external_data[1:]
    path.write_bytes(model.SerializeToString())
    with (tmp_path / "w.bin").open("r+b") as file:
        file.truncate(1 << 40)
    assert "external data 'w.bin' must be at most 16 bytes for dimensions [], not 1099511627776" in refusal(path)


def test_external_data_of_inner_graphs(tmp_path):
    """Looked for beside the model as well, not where the command is run."""
    path = tmp_path / "model.onnx"
    model = onnx.load_model_from_string(MODELS["choice"][0]().model())
    branch = next(a.g for node in model.graph.node for a in node.attribute if a.name == "then_branch")
    tensor = onnx.TensorProto(name="inner", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="inner.bin")
    branch.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    assert "initializer 'inner': external data 'inner.bin' must be a file beside the model" in refusal(path)
    (tmp_path / "inner.bin").write_bytes(np.array([3, 4], np.float32).tobytes())
    graph = next(a.g for node in read_model(path).graph.node for a in node.attribute if a.name == "then_branch")
    np.testing.assert_array_equal(numpy_helper.to_array(graph.initializer[0]), [3, 4])


def test_what_external_data_has_beside_its_place(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save_model(qlinear_conv(), str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data.add(key="colour", value="red")
    path.write_bytes(model.SerializeToString())
    assert len(import_model(path).layers) == 1


def test_attributes_of_other_types():
    proto = helper.make_node("Conv", ["x", "w"], ["y"], "conv", group=1.5)
    with pytest.raises(SystolithError) as error:
        Node(proto, "net.onnx", 13).attributes(group=1)
    assert str(error.value) == "net.onnx: Conv 'conv': attribute 'group' must be of type int, not FLOAT"


@seeds(300)
def test_damaged_files(seed):
    """Whatever bytes are missing or wrong: a graph, or a refusal; never another exception."""
    rng = np.random.default_rng(seed)
    data = bytearray(random_layer(rng, limits=SMALL)[0])
    place = int(rng.integers(0, len(data)))
    match seed % 4:
        case 0:
            data = data[:place]
        case 1:
            data[place] ^= 1 << int(rng.integers(0, 8))
        case 2:
            del data[place : place + int(rng.integers(1, 9))]
        case _:
            data[place:place] = rng.bytes(int(rng.integers(1, 9)))
    try:
        import_model(bytes(data), "net.onnx")
    except SystolithError as error:
        assert str(error).startswith("net.onnx: ")
        assert "\n" not in str(error)
