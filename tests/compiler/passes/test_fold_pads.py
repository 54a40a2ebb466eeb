"""Padding in front of convolutions and pools: folded where nothing changes, kept where something would."""

import numpy as np
import pytest

from systolith.compiler.frontend import importer
from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Conv, Graph, SfuOp
from systolith.compiler.passes.fold_pads import fold_pads
from systolith.sim.golden import golden
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter

RNG = np.random.default_rng(5)
SCALE, ZERO = 0.05, np.uint8(117)


def network(op: str, value: float = 0.0, around=(1, 2, 3, 0), read_twice: bool = False, **attributes) -> bytes:
    """Pad, then a convolution or pool; with `read_twice` the padded tensor is an output as well."""
    writer = ModelWriter()
    x = writer.dequantize(writer.input("x", np.uint8, (1, 3, 9, 8)), SCALE, ZERO)
    pads = np.array([0, 0, *around[:2], 0, 0, *around[2:]], np.int64)
    y = writer.node("Pad", [x, writer.constant(pads), writer.constant(np.float32(value))])
    q = writer.quantize(y, SCALE, ZERO)
    if read_twice:
        writer.output(q, np.uint8, list("ijkl"))
    y = writer.dequantize(q, SCALE, ZERO)
    if op == "Conv":
        w = writer.constant(RNG.integers(-128, 128, (4, 3, 3, 2)).astype(np.int8))
        y = writer.node("Conv", [y, writer.dequantize(w, 0.01, np.int8(0))], **attributes)
    else:
        y = writer.node(op, [y], kernel_shape=[3, 2], **attributes)
    scale = 0.3 if op == "Conv" else SCALE
    writer.output(writer.quantize(y, scale, ZERO), np.uint8, list("efgh"))
    return writer.model()


def same(model: bytes) -> Graph:
    """Import with and without the pass; hold both to one another, and to ONNX Runtime, whose pools are float32."""
    graph = import_model(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importer, "PASSES", tuple(p for p in importer.PASSES if p is not fold_pads))
        whole = import_model(model)
    inputs = {"x": RNG.integers(0, 256, graph.inputs[0].shape).astype(np.uint8)}
    mine, apart, theirs = golden.run(graph, inputs), golden.run(whole, inputs), reference.run(model, inputs)
    for name, expected in theirs.items():
        np.testing.assert_array_equal(mine[name], apart[name])
        np.testing.assert_allclose(mine[name].astype(int), expected.astype(int), atol=1, rtol=0)
    return graph


MINUS_SEVEN = float(np.float32(-7) * np.float32(SCALE))


@pytest.mark.parametrize(("op", "value", "attributes", "pads"), [
    ("Conv", 0.0, {}, (1, 2, 3, 0)), ("Conv", 0.0, {"pads": [1, 0, 0, 2], "strides": [2, 1]}, (2, 2, 3, 2)),
    ("MaxPool", 0.0, {}, (1, 2, 3, 0)), ("MaxPool", MINUS_SEVEN, {"strides": [2, 2]}, (1, 2, 3, 0)),
    ("AveragePool", 0.0, {}, (1, 2, 3, 0)), ("AveragePool", 0.0, {"count_include_pad": 1}, (1, 2, 3, 0)),
    ("AveragePool", 0.0, {"pads": [1, 0, 1, 1], "count_include_pad": 1}, (2, 2, 4, 1)),
    ("AveragePool", 0.0, {"pads": [1, 0, 1, 1]}, (2, 2, 4, 1))])  # fmt: skip
def test_folded(op, value, attributes, pads):
    graph = same(network(op, value, **attributes))
    (layer,) = graph.layers
    assert isinstance(layer, Conv | SfuOp)
    assert layer.input == "x"
    assert layer.window.pads == pads


@pytest.mark.parametrize(("op", "value", "attributes"), [
    ("Conv", MINUS_SEVEN, {}), ("MaxPool", 0.0, {"pads": [1, 0, 1, 1]}), ("AveragePool", MINUS_SEVEN, {})])  # fmt: skip
def test_not_folded(op, value, attributes):
    assert len(same(network(op, value, **attributes)).layers) == 2


def test_padded_tensor_that_is_an_output():
    graph = same(network("Conv", read_twice=True))
    assert [layer.input for layer in graph.layers] == ["x", "x"]


def test_cropping_is_not_folded_into_a_convolution():
    assert len(same(network("Conv", around=(-1, 0, 0, 0))).layers) == 2
