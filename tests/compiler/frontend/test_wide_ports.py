"""Inputs and outputs of types that NumPy has not: wider types stand for them, and no value changes."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from systolith import PRESETS
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.network import compile_network
from systolith.network import Network
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.split_models import IMAGE, Net

TINY = PRESETS["tiny4"]


def network(kind: int, quantized: bool) -> bytes:
    """A convolution whose result goes out in another type, too: of float32, or quantized to it."""
    net = Net(opset=23)
    x = net.real(net.conv(net.image()))
    if quantized:
        zero = helper.make_tensor("zero", kind, [], [0])
        net.initializers.append(zero)
        odd = net.node("QuantizeLinear", [x, net.constant(np.float32(0.5)), "zero"])
    else:
        odd = net.node("Cast", [x], to=kind)
    net.floats(net.small(x), IMAGE)
    net.output(odd, np.float32, IMAGE)
    model = ModelProto.FromString(net.model())
    model.graph.output[1].type.tensor_type.elem_type = kind
    return model.SerializeToString()


@pytest.mark.parametrize(("kind", "quantized", "dtype"), [
    (TensorProto.BFLOAT16, False, "float32"), (TensorProto.FLOAT8E4M3FN, False, "float32"),
    (TensorProto.FLOAT8E5M2, True, "float32"), (TensorProto.INT4, True, "int8"), (TensorProto.UINT4, True, "uint8"),
])  # fmt: skip
def test_outputs(kind, quantized, dtype):
    compiled = compile_network(network(kind, quantized), TINY)
    assert isinstance(compiled, Network)
    small, wide = compiled.outputs
    assert wide.dtype == dtype
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    assert check(compiled, inputs, outputs).passed
    real, found = outputs[small.name], outputs[wide.name]
    exact = np.clip(np.rint(real * 2), *{"int8": (-8, 7), "uint8": (0, 15)}.get(dtype, (-1e9, 1e9)))
    if dtype == "float32":
        assert np.abs(found / (2 if quantized else 1) - real).max() <= np.abs(real).max() / 8
        assert len(np.unique(found)) > 4
    else:
        assert np.array_equal(found, exact)


def test_inputs():
    net = Net(opset=21)
    x = net.input("x", np.float32, IMAGE)
    net.floats(net.conv(net.small(net.node("Cast", [x], to=TensorProto.FLOAT))), IMAGE)
    model = ModelProto.FromString(net.model())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    compiled = compile_network(model.SerializeToString(), TINY)
    assert compiled.inputs[0].dtype == "float32"
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    assert check(compiled, inputs, outputs).passed
    rounded = {"x": (inputs["x"].view(np.uint32) + 0x7FFF + (inputs["x"].view(np.uint32) >> 16 & 1)) >> 16 << 16}
    same, _ = run(compiled, {"x": rounded["x"].astype(np.uint32).view(np.float32)}, TINY, "isa")
    for name, values in outputs.items():
        assert np.array_equal(values, same[name])


def test_an_input_that_goes_out():
    net = Net(opset=21)
    x = net.input("x", np.float32, IMAGE)
    net.floats(net.conv(net.small(net.node("Cast", [x], to=TensorProto.FLOAT))), IMAGE)
    net.output(net.node("Identity", [x], "same"), np.float32, IMAGE)
    model = ModelProto.FromString(net.model())
    for port in (model.graph.input[0], model.graph.output[1]):
        port.type.tensor_type.elem_type = TensorProto.BFLOAT16
    compiled = compile_network(model.SerializeToString(), TINY)
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    (name,) = (port.name for port in compiled.outputs if port.name.startswith("same"))
    assert check(compiled, inputs, outputs).passed
    assert np.array_equal(outputs[name].view(np.uint32) & 0xFFFF, np.zeros(outputs[name].shape))


def test_a_map_of_scores_is_the_tensor_of_scores():
    net = Net()
    x = net.node("Flatten", [net.real(net.conv(net.image()))])
    net.output(net.node("ZipMap", [x], classlabels_int64s=list(range(144)), domain="ai.onnx.ml"), np.float32, None)
    model = ModelProto.FromString(net.model())
    scores = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(scores))
    if not any(opset.domain == "ai.onnx.ml" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    source = model.SerializeToString()
    compiled = compile_network(source, TINY)
    inputs = random_inputs(compiled, 1)
    (found,) = run(compiled, inputs, TINY, "isa")[0].values()
    (maps,) = reference.run(source, inputs).values()
    expected = [[row[label] for label in range(144)] for row in maps]
    assert np.array_equal(found, np.array(expected, np.float32))


def test_others_stay_as_they_are():
    source = Net(opset=21)
    source.floats(source.conv(source.image()), IMAGE)
    assert [node.op_type for node in read_model(source.model()).graph.node].count("Cast") == 0
