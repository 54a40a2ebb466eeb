"""Small files that ask for much: pads, windows, constants and channels of any size are refused before they are made."""

import contextlib
import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from systolith import PRESETS, SystolithError
from systolith.compiler.frontend.importer import import_model
from systolith.compiler.network import compile_network
from systolith.sim.stimulus.model_writer import ModelWriter

BIG = 1 << 30
ROOM = 200 << 20
"""Bytes; what is asked for is gigabytes."""


def model(make, shape=(1, 4, 6, 6)) -> bytes:
    """A quantized tensor, what `make` adds, and QuantizeLinear."""
    w = ModelWriter(17)
    x = w.dequantize(w.input("x", np.int8, shape), 0.1, np.int8(0))
    w.output(w.quantize(make(w, x), 0.1, np.int8(0)), np.int8, ["a", "b", "c", "d"])
    return w.model()


def ints(w: ModelWriter, *numbers: int) -> str:
    return w.constant(np.array(numbers, np.int64))


def kernel(w: ModelWriter) -> str:
    return w.dequantize(w.constant(np.ones((4, 4, 3, 3), np.int8)), 0.01, np.int8(0))


def plus(w: ModelWriter, x: str, constant: str) -> str:
    """x and a constant of integers."""
    return w.node("Add", [x, w.dequantize(w.node("Cast", [constant], to=TensorProto.INT8), 0.1, np.int8(0))])


ASKING = {
    "pads of images": lambda w, x: w.node("Pad", [x, ints(w, 0, 0, BIG, BIG, 0, 0, BIG, BIG)]),
    "pads of a row": lambda w, x: w.node("Pad", [x, ints(w, 0, 0, 0, 0, 0, 0, 0, BIG)]),
    "pads of channels": lambda w, x: w.node("Pad", [x, ints(w, 0, BIG, 0, 0, 0, 0, 0, 0)]),
    "pads that leave out": lambda w, x: w.node("Pad", [x, ints(w, 0, 0, -BIG, 0, 0, 0, BIG, 0)]),
    "pads of a convolution": lambda w, x: w.node("Conv", [x, kernel(w)], pads=[BIG] * 4),
    "pads beyond 32 bits": lambda w, x: w.node("Conv", [x, kernel(w)], pads=[0, 0, 0, 1 << 40]),
    "strides": lambda w, x: w.node("Conv", [x, kernel(w)], pads=[BIG] * 4, strides=[BIG, BIG]),
    "dilations": lambda w, x: w.node("Conv", [x, kernel(w)], pads=[BIG] * 4, dilations=[BIG - 9, BIG - 9]),
    "transposed strides": lambda w, x: w.node("ConvTranspose", [x, kernel(w)], strides=[BIG, BIG]),
    "transposed size": lambda w, x: w.node("ConvTranspose", [x, kernel(w)], output_shape=[1 << 20, 1 << 20]),
    "maximum": lambda w, x: w.node("MaxPool", [x], kernel_shape=[BIG, BIG], pads=[BIG - 1] * 4),
    "average": lambda w, x: w.node("AveragePool", [x], kernel_shape=[BIG, BIG], pads=[BIG - 1] * 4),
    "large average": lambda w, x: w.node("AveragePool", [x], kernel_shape=[30_000] * 2, pads=[29_999] * 4),
    "same maximum": lambda w, x: w.node("MaxPool", [x], kernel_shape=[30_000] * 2, auto_pad="SAME_UPPER"),
    "slice of pads": lambda w, x: w.node(
        "Slice", [w.node("Pad", [x, ints(w, 0, 0, 0, 0, 0, 0, 0, BIG)]), ints(w, 0), ints(w, BIG), ints(w, 3)]
    ),
    "resize": lambda w, x: w.node("Resize", [x, "", "", ints(w, 1, 4, BIG, BIG)], mode="nearest"),
    "range": lambda w, x: plus(w, x, w.node("Range", [w.constant(np.int64(n)) for n in (0, 1 << 40, 1)])),
    "one hot": lambda w, x: plus(w, x, w.node("OneHot", [ints(w, 1), w.constant(np.int64(1 << 36)), ints(w, 0, 1)])),
    "constant": lambda w, x: plus(w, x, w.node("ConstantOfShape", [ints(w, 1 << 20, 4, 6, 6)])),
}


def refuse(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SystolithError) as error:
            compile_network(data, PRESETS["tiny4"])
        assert "\n" not in str(error.value)
        assert tracemalloc.get_traced_memory()[1] < ROOM
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ASKING)
def test_nothing_is_made_before_it_is_refused(name):
    refuse(model(ASKING[name]))


@pytest.mark.parametrize(
    "shape", [(1 << 31, 4, 6, 6), (1, 4, 1 << 20, 1 << 20), (1, BIG, 1, 1), (1, 4, 1 << 14, 1 << 14)]
)
def test_inputs(shape):
    refuse(model(lambda w, x: w.node("Conv", [x, kernel(w)]) if shape[1] == 4 else w.node("Relu", [x]), shape))


def test_a_constant_may_be_as_large_as_what_it_is_made_from(monkeypatch):
    """Weights that a Cast makes are folded, however many they are."""
    monkeypatch.setattr("systolith.compiler.frontend.values.constants.LARGEST", 10)

    def conv(w: ModelWriter, x: str) -> str:
        weights = w.node("Cast", [w.constant(np.ones((4, 4, 3, 3), np.int32))], to=TensorProto.INT8)
        return w.node("Conv", [x, w.dequantize(weights, 0.01, np.int8(0))])

    assert compile_network(model(conv), PRESETS["tiny4"]).inputs[0].shape == (1, 4, 6, 6)
    refuse(model(lambda w, x: plus(w, x, w.node("ConstantOfShape", [ints(w, 1, 4, 6, 6)]))))


@pytest.mark.parametrize(
    ("raw", "dims"), [(3, [2, 2]), (5, [2, 2]), (0, [BIG]), (4, [-2, -2]), (4, [1 << 62, 4]), (0, [0])]
)
def test_initializers_of_another_size_than_they_say(raw, dims):
    def conv(w: ModelWriter, x: str) -> str:
        y = w.node("Conv", [x, kernel(w)])
        w.initializers.append(TensorProto(name="odd", data_type=TensorProto.INT8, dims=dims, raw_data=bytes(raw)))
        return w.node("Add", [y, w.dequantize("odd", 0.1, np.int8(0))])

    refuse(model(conv))


@pytest.mark.parametrize("depth", [10, 30, 60, 1000])
def test_graphs_in_graphs(depth):
    """A file of any depth is refused in one line."""
    changed = onnx.load_model_from_string(model(lambda w, x: w.node("Conv", [x, kernel(w)])))
    node = changed.graph.node.add(op_type="If", input=["x"], output=["z"])
    for _ in range(depth):
        attribute = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        node = attribute.g.node.add(op_type="If", input=["x"], output=["z"])
    changed.graph.output[0].name = "z"
    refuse(changed.SerializeToString())


def test_strings_and_other_constants_that_are_no_numbers():
    def conv(w: ModelWriter, x: str) -> str:
        w.initializers.append(helper.make_tensor("text", TensorProto.STRING, [2], [b"a", b"b"]))
        return w.node("Add", [w.node("Conv", [x, kernel(w)]), w.dequantize("text", 0.1, np.int8(0))])

    refuse(model(conv))


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearGlobalAveragePool", "QGemm"])
@pytest.mark.parametrize("count", range(9))
def test_operators_of_microsoft_with_too_few_inputs(op, count):
    """onnx.checker does not know how many they need."""
    w = ModelWriter(17)
    x = w.input("x", np.int8, (1, 4, 6, 6))
    scale, zero = w.constant(np.float32(0.1)), w.constant(np.int8(0))
    inputs = [x, scale, zero] * 3 if op != "QLinearSigmoid" else [x, scale, zero, scale, zero]
    y = w.node(op, inputs[:count], domain="com.microsoft")
    w.output(w.node("Relu", [y]), np.int8, ["a", "b", "c", "d"])
    with contextlib.suppress(SystolithError):
        import_model(w.model())
