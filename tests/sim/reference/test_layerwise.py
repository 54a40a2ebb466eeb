"""Golden against ONNX Runtime operator by operator: what differs is found where it is, and not carried on."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Conv, Graph
from systolith.sim.reference import layerwise, reference
from systolith.sim.reference.layerwise import LayerCheck, compare_layers
from systolith.sim.stimulus.layers import random_layer
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.seeds import each_seed, many

pytestmark = pytest.mark.skipif(reference.saturates(), reason="ONNX Runtime saturates at 16 bits on this processor")


def chain(seed: int) -> tuple[bytes, dict[str, np.ndarray]]:
    return random_layer(np.random.default_rng(seed), "chain")


def test_chains_are_equal_and_every_layer_is_compared():
    for seed in each_seed(range(many(12))):
        model, inputs = chain(seed)
        graph = import_model(model)
        checks = compare_layers(model, graph, inputs)
        dequantized = {port.name for port in graph.outputs if port.dtype == "float32"}
        assert {check.output for check in checks} == {layer.output for layer in graph.layers} | dequantized
        assert all(check.passed and check.promised and check.elements for check in checks)


def test_a_difference_stays_where_it_is(monkeypatch):
    """A wrong bias in one layer is found there, and in no layer behind it."""
    model, inputs = chain(1)
    graph = import_model(model)
    assert len(graph.layers) > 1
    first = graph.layers[0]
    assert isinstance(first, Conv)

    def wrong(*arguments) -> Graph:
        found = import_model(*arguments)
        layer = found.layers[0]
        assert isinstance(layer, Conv)
        bias = (layer.bias + np.ceil(3 / layer.scale)).astype(np.int32)
        return replace(found, layers=(replace(layer, bias=bias), *found.layers[1:]))

    monkeypatch.setattr(layerwise, "import_model", wrong)
    checks = compare_layers(model, graph, inputs)
    assert [check.output for check in checks if not check.passed] == [first.output]
    assert max(check.largest for check in checks) > 1


def residual(zero_point: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """A QDQ Add, which ONNX Runtime runs as QLinearAdd, and a pool behind it."""
    writer = ModelWriter()
    pair = [writer.dequantize(writer.quantize(writer.input(name, np.float32, (1, 4, 8, 8)), scale, np.int8(3)), scale,
                              np.int8(3)) for name, scale in (("a", 0.1), ("b", 0.07))]  # fmt: skip
    y = writer.quantize(writer.node("Add", pair), 0.13, np.int8(zero_point))
    pooled = writer.node("MaxPool", [writer.dequantize(y, 0.13, np.int8(zero_point))], kernel_shape=[2, 2])
    writer.output(writer.quantize(pooled, 0.13, np.int8(zero_point)), np.int8, (1, 4, 7, 7))
    rng = np.random.default_rng(1)
    return writer.model(), {name: rng.normal(0, 5, (1, 4, 8, 8)).astype(np.float32) for name in ("a", "b")}


def test_additions_are_not_promised():
    model, inputs = residual(5)
    assert reference.float_operators(model) == ["QLinearAdd"]
    promised = {check.op: check.promised for check in compare_layers(model, import_model(model), inputs)}
    assert promised == {"Add": False, "MaxPool": True}


def test_what_moves_behind_a_float_operator_is_not_promised():
    """ONNX Runtime quantizes the mean before it reshapes it: the reshaped one is no more exact."""
    writer = ModelWriter()
    x = writer.dequantize(
        writer.quantize(writer.input("x", np.float32, (1, 4, 8, 8)), 0.1, np.int8(3)), 0.1, np.int8(3)
    )
    sizes = writer.constant(np.array([1, 32], np.int64))
    y = writer.node("Reshape", [writer.node("ReduceMean", [x], axes=[2]), sizes])
    y = writer.quantize(y, 0.05, np.int8(3))
    weights = writer.dequantize(writer.constant(np.full((32, 4), 5, np.int8)), 0.1, np.int8(0))
    z = writer.quantize(writer.node("MatMul", [writer.dequantize(y, 0.05, np.int8(3)), weights]), 0.2, np.int8(3))
    writer.output(z, np.int8, (1, 4))
    model = writer.model()
    assert reference.float_operators(model) == ["ReduceMean"]
    inputs = {"x": np.random.default_rng(1).normal(0, 5, (1, 4, 8, 8)).astype(np.float32)}
    promised = {check.output: check.promised for check in compare_layers(model, import_model(model), inputs)}
    assert promised[y] is False
    assert promised[z] is True


def test_float_operators_are_those_with_float_data():
    """A Relu that the zero point does not absorb leaves the layer in float; moving values does not count."""
    names = set()
    for seed in each_seed(range(many(80))):
        model, _ = random_layer(np.random.default_rng(seed), "qdq_conv")
        names |= set(reference.float_operators(model))
    assert names
    assert names <= {"Conv", "FusedConv", "Relu", "Clip"}


def test_exposed_tensors_leave_the_fusions_as_they_are():
    for seed in each_seed(range(many(6))):
        model, _ = chain(seed)
        graph = import_model(model)
        made = {name for node in onnx.load_from_string(model).graph.node for name in node.output}
        extended = layerwise.expose(
            model, graph.inputs, [layer.output for layer in graph.layers if layer.output in made][:-1]
        )
        assert reference.float_operators(extended) == reference.float_operators(model) == []


def test_exposed_tensors_have_a_fixed_shape_where_the_batch_is_open():
    """ONNX Runtime may know no rank behind a Reshape to a computed shape: it would tell that of a scalar."""
    writer = ModelWriter()
    x = writer.quantize(writer.input("x", np.float32, ("N", 4, 4, 4)), 0.1, np.int8(0))
    x = writer.dequantize(x, 0.1, np.int8(0))
    inner = writer.quantize(writer.node("Relu", [x]), 0.1, np.int8(0))
    pooled = writer.node("GlobalAveragePool", [writer.dequantize(inner, 0.1, np.int8(0))])
    writer.output(writer.quantize(pooled, 0.1, np.int8(0)), np.int8, ("N", 4, 1, 1))
    graph = import_model(writer.model(), batch=2)
    extended = onnx.load_from_string(layerwise.expose(writer.model(), graph.inputs, [inner])).graph.output
    shapes = {port.name: [dim.dim_value for dim in port.type.tensor_type.shape.dim] for port in extended}
    assert shapes[inner] == [2, 4, 4, 4]
    inputs = {"x": np.random.default_rng(0).normal(0, 5, (2, 4, 4, 4)).astype(np.float32)}
    checks = compare_layers(writer.model(), graph, inputs)
    assert [check.op for check in checks if check.passed] == ["Relu", "GlobalAveragePool"]


@pytest.mark.parametrize(("largest", "promised", "passed"), [(0, True, True), (1, True, False), (1, False, True),
                                                             (2, False, False)])  # fmt: skip
def test_what_passes(largest: int, promised: bool, passed: bool):
    assert LayerCheck("l", "Conv", "y", 10, 1, largest, promised).passed == passed
