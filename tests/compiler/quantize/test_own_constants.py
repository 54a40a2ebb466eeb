"""Biases and weights as ONNX Runtime's quantizer takes them: what is made of a model computes the same."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from systolith.compiler.quantize.own_constants import own_constants
from systolith.compiler.quantize.quantize import quantize_model
from systolith.sim.reference import reference

ROWS, INNER, CHANNELS = 5, 6, 7


def model(nodes, stored: dict, outputs=("y",), shape=(ROWS, INNER)) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["d0", "d1"]) for name in outputs],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantized(net: onnx.ModelProto, x: np.ndarray, within: float = 0.05) -> onnx.ModelProto:
    """Quantize; hold it to the float model."""
    before = net.SerializeToString()
    found = quantize_model(before, {"x": np.stack([x, -x])})
    expected, values = (reference.run(version, {"x": x}) for version in (before, found))
    for name, exact in expected.items():
        assert values[name].shape == exact.shape
        assert np.abs(values[name] - exact).max() < within * np.abs(exact).max()
    return onnx.load_from_string(found)


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"beta": -0.5}, {"alpha": 2.0, "beta": 3.0}])
@pytest.mark.parametrize("shape", [(), (1,), (CHANNELS,), (1, 1), (1, CHANNELS), (ROWS, 1), (ROWS, CHANNELS)])
def test_every_bias_of_a_gemm(shape, attributes):
    w = normal(*((CHANNELS, INNER) if "transB" in attributes else (INNER, CHANNELS)))
    net = model([helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", **attributes)],
                {"w": w, "b": normal(*shape, seed=2) + 3})  # fmt: skip
    x = {"x": normal(ROWS, INNER, seed=3)}
    expected = reference.run(net.SerializeToString(), x)["y"]
    plain = own_constants(onnx.ModelProto.FromString(net.SerializeToString()))
    onnx.checker.check_model(plain, full_check=True)
    stored = {tensor.name: list(tensor.dims) for tensor in plain.graph.initializer}
    gemm = plain.graph.node[0]
    if len(shape) == 2 and shape[0] > 1:
        assert [node.op_type for node in plain.graph.node] == ["Gemm", "Add"] and len(gemm.input) == 2
    else:
        assert len(plain.graph.node) == 1 and stored[gemm.input[2]] == [CHANNELS]
    assert "beta" not in {attribute.name for attribute in gemm.attribute}
    assert np.allclose(reference.run(plain.SerializeToString(), x)["y"], expected, rtol=1e-5, atol=1e-5)
    quantized(net, x["x"])


def test_biases_that_are_made_or_read_elsewhere():
    """One that nodes make of constants, which the optimizer folds; one that is an output, and added once more."""
    nodes = [
        helper.make_node("Add", ["b", "b"], ["twice"]), helper.make_node("Gemm", ["x", "w", "twice"], ["t"]),
        helper.make_node("Add", ["t", "b"], ["y"]),
    ]  # fmt: skip
    net = model(nodes, {"w": normal(INNER, CHANNELS), "b": normal(1, CHANNELS, seed=2)}, outputs=("y", "b"))
    quantized(net, normal(ROWS, INNER, seed=3))


def test_names_that_are_taken():
    nodes = [
        helper.make_node("Gemm", ["x", "w", "y/bias"], ["y/product"]),
        helper.make_node("Relu", ["y/product"], ["y"]),
    ]
    net = model(nodes, {"w": normal(INNER, CHANNELS), "y/bias": normal(1, CHANNELS), "y/product/bias": normal(1)})
    quantized(net, normal(ROWS, INNER, seed=3))


def test_a_bias_of_two_layers():
    """Each quantizes it with a scale of its own."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["1"]), helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("Gemm", ["2", "v", "b"], ["y"]),
    ]  # fmt: skip
    net = model(nodes, {"w": normal(6, 6), "v": 9 * normal(6, 6, seed=2), "b": normal(6, seed=4)})
    found = quantized(net, normal(ROWS, INNER, seed=3))
    biases = [node.input[2] for node in found.graph.node if node.op_type == "Gemm"]
    assert len(set(biases)) == 2


@pytest.mark.parametrize("second", [
    helper.make_node("Gemm", ["1", "w"], ["y"], transB=1), helper.make_node("Add", ["1", "w"], ["y"]),
])  # fmt: skip
def test_weights_that_are_read_in_another_way(second):
    """By columns and by rows; and as a summand. One scale for each column would be wrong for the second node."""
    w = normal(6, 6) * np.float32(10.0) ** np.arange(-3, 3)[:, None]
    net = model([helper.make_node("Gemm", ["x", "w"], ["1"]), second], {"w": w}, shape=(6, 6))
    found = quantized(net, normal(6, 6, seed=3))
    assert len([tensor for tensor in found.graph.initializer if list(tensor.dims) == [6, 6]]) == 2


def test_weights_that_are_read_alike_are_there_once():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["1"]), helper.make_node("MatMul", ["1", "w"], ["y"])]
    found = quantized(model(nodes, {"w": normal(6, 6)}), normal(ROWS, INNER, seed=3))
    assert len([tensor for tensor in found.graph.initializer if list(tensor.dims) == [6, 6]]) == 1
