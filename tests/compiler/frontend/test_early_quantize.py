"""Layers whose QuantizeLinear stands behind operators that only move values, or is there more than once."""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Conv
from systolith.compiler.pipeline import compile_model
from systolith.config import PRESETS
from systolith.errors import UnsupportedError
from systolith.sim.golden import golden
from systolith.sim.reference.layerwise import compare_layers
from systolith.sim.run import run
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, any_of, output
from tests.support.small_models import several

UINT8 = np.dtype(np.uint8)
SCALE, ZERO = np.float32(0.31), np.uint8(60)


class Writer(ModelWriter):
    """Convolutions of one input, between DequantizeLinear and nothing."""

    def __init__(self):
        super().__init__(17)
        self.rng = np.random.default_rng(0)
        self.x = self.dequantize(self.input("x", np.uint8, (2, 4, 6, 6)), 0.04, np.uint8(101))

    def conv(self, x: str | None = None, outputs: int = 4) -> str:
        weights = any_of(self.rng, np.dtype(np.int8), (outputs, 4, 3, 3))
        return self.node("Conv", [x or self.x, self.dequantize(self.constant(weights), 0.01, np.int8(0))], pads=[1] * 4)

    def quantized(self, x: str) -> str:
        return self.quantize(x, SCALE, ZERO)

    def pair(self, x: str) -> str:
        return self.dequantize(self.quantized(x), SCALE, ZERO)

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def pool(self, x: str) -> str:
        return self.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])


def resized(w: Writer) -> str:
    return w.node("Resize", [w.conv(), "", w.constant(np.array([1, 1, 2, 2], np.float32))],
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip


MOVES = {
    "MaxPool": lambda w: w.pool(w.conv()),
    "MaxPool, Relu, MaxPool": lambda w: w.pool(w.node("Relu", [w.pool(w.conv())])),
    "MaxPool and Clip": lambda w: w.node("Clip", [w.pool(w.conv()), *(w.constant(np.float32(n)) for n in (-3, 17))]),
    "Relu and MaxPool": lambda w: w.pool(w.node("Relu", [w.conv()])),
    "Concat": lambda w: w.node("Concat", [w.conv(), w.node("Relu", [w.conv()])], axis=1),
    "Concat with a quantized tensor": lambda w: w.node("Concat", [w.conv(), w.x], axis=1),
    "Concat and Relu": lambda w: w.node("Relu", [w.node("Concat", [w.conv(), w.conv()], axis=1)]),
    "Slice": lambda w: w.node("Slice", [w.conv(), w.ints(1), w.ints(5), w.ints(2)]),
    "Pad": lambda w: w.node("Pad", [w.conv(), w.ints(0, 0, 1, 1, 0, 0, 1, 2)]),
    "DepthToSpace": lambda w: w.node("DepthToSpace", [w.conv(outputs=8)], blocksize=2),
    "GlobalMaxPool": lambda w: w.node("GlobalMaxPool", [w.conv()]),
    "Resize": resized,
    "function": lambda w: w.pool(w.node("Sigmoid", [w.x])),
    "sum": lambda w: w.pool(w.node("Add", [w.pair(w.conv()), w.pair(w.conv())])),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_operators_that_move_values(name):
    """ONNX Runtime computes the layer in float32: within one step, and what comes behind it is exact."""
    w = Writer()
    ones = np.ones((3, 8 if "Concat" in name else 2 if name == "DepthToSpace" else 4, 1, 1), np.int8)
    y = w.node("Conv", [w.pair(MOVES[name](w)), w.dequantize(w.constant(ones), 0.1, np.int8(0))])
    data, config = output(w, w.quantize(y, 0.9, np.uint8(99)), UINT8), PRESETS["tiny4"]
    graph = agree(data, w.rng, steps=1)
    inputs = {"x": any_of(w.rng, UINT8, (2, 4, 6, 6))}
    checks = compare_layers(data, graph, inputs)
    assert all(check.passed for check in checks)
    assert [check.op for check in checks if check.promised][-1:] == ["Conv"]
    outputs, _ = run(compile_model(data, config), inputs, config, "isa")
    for port, expected in golden.run(graph, inputs).items():
        assert (outputs[port] == expected).all()


def test_parts_that_all_have_one_scale():
    w = Writer()
    first, second = several(w, "Split", [w.conv(), w.ints(1, 3)], 2, axis=1)
    output(w, w.quantized(first), UINT8)
    agree(output(w, w.quantized(second), UINT8), w.rng, steps=1)


@pytest.mark.parametrize("other", [lambda w, y: w.quantize(y, 0.3, ZERO), lambda w, y: y,
                                   lambda w, y: w.quantized(w.node("Exp", [y]))])  # fmt: skip
def test_readers_that_want_something_else(other):
    """Another scale, the float32 values themselves, a function of them: nothing can be quantized before."""
    w = Writer()
    y = w.pool(w.conv())
    output(w, w.quantized(y), UINT8)
    last = other(w, y)
    with pytest.raises(UnsupportedError, match=r"MaxPool '.*': input must be an 8-bit tensor or its DequantizeLinear"):
        import_model(output(w, last, np.dtype(np.float32) if last == y else UINT8))


def test_one_layer_for_quantizations_that_are_the_same():
    """As with a pair for each reader: one convolution, not two; but one for each where they differ."""
    w = Writer()
    y = w.conv()
    total = w.node("Add", [w.pair(y), w.node("Relu", [w.pair(y)])])
    output(w, w.quantize(y, 0.2, ZERO), UINT8)
    graph = agree(output(w, w.quantize(total, 0.4, ZERO), UINT8), w.rng, steps=1)
    assert sum(isinstance(layer, Conv) for layer in graph.layers) == 2


def test_outputs_that_are_the_same():
    w, config = Writer(), PRESETS["tiny4"]
    y = w.conv()
    first, second = w.quantized(y), w.quantized(y)
    output(w, first, UINT8)
    data = output(w, second, UINT8)
    graph = agree(data, w.rng)
    assert [port.name for port in graph.outputs] == [first, second]
    assert len(graph.layers) == 1
    inputs = {"x": any_of(w.rng, UINT8, (2, 4, 6, 6))}
    outputs, _ = run(compile_model(data, config), inputs, config, "isa")
    expected = golden.run(graph, inputs)[first]
    assert list(outputs) == [first, second]
    assert all((values == expected).all() for values in outputs.values())


def test_quantizations_without_a_zero_point_are_not_the_same():
    w = Writer()
    y = w.conv()
    for scale in (0.7, 2.1):
        output(w, w.node("QuantizeLinear", [y, w.constant(np.float32(scale))]), UINT8)
    agree(w.model(), w.rng, steps=1)
