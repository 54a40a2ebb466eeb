"""Biases of every kind, and channels without weights: against ONNX Runtime's own kernel of each operator.

Its fused kernels take the integers of a Gemm's bias as they are, whatever their scale, and overflow where a float32
bias has no room in int32.
"""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Conv, Graph
from systolith.compiler.network import compile_network
from systolith.config import PRESETS
from systolith.errors import UnsupportedError
from systolith.program import Program
from systolith.sim.golden import golden
from systolith.sim.run import run
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, differences, unoptimized
from tests.support.layer_models import BIASES, DEAD_SCALES, OPERATORS, LayerModel

TINY = PRESETS["tiny4"]
TYPES = (np.dtype(np.int8), np.dtype(np.uint8))


def holds(layer: LayerModel, model: bytes) -> Graph:
    """All of the model runs on the accelerator, as golden says, within one step of ONNX Runtime, and mostly equal."""
    program = compile_network(model, TINY)
    assert isinstance(program, Program)
    graph, off = differences(model, layer.rng, run=unoptimized)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.05
    inputs = {"x": layer.rng.integers(0, 120, graph.inputs[0].shape).astype(layer.dtype)}
    (found,), (expected,) = run(program, inputs, TINY, "isa")[0].values(), golden.run(graph, inputs).values()
    np.testing.assert_array_equal(found, expected)
    return graph


def scales(layer: LayerModel) -> LayerModel:
    """With a scale for each output."""
    layer.scale = layer.rng.uniform(0.002, 0.02, 5).astype(np.float32)
    return layer


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("many", [False, True], ids=["scale", "scales"])
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("op", OPERATORS)
def test_every_bias(op: str, bias: str, many: bool, dtype: np.dtype):
    layer = LayerModel(np.random.default_rng(5), op, bias, dtype=dtype)
    holds(layer, (scales(layer) if many else layer).model())


@pytest.mark.parametrize("op", OPERATORS)
def test_integers_in_units_of_the_accumulator_are_the_bias(op: str):
    """Bit for bit what ONNX Runtime's integer kernels compute."""
    layer = scales(LayerModel(np.random.default_rng(6), op, "int32"))
    agree(layer.model(), layer.rng)


def test_a_bias_whose_scale_is_a_multiple():
    """Exact: each step of it is 4 of the accumulator."""
    layer = LayerModel(np.random.default_rng(7), "Conv", "own scale")
    (conv,) = holds(layer, layer.model()).layers
    assert isinstance(conv, Conv)
    assert (conv.bias % 4 == 0).all()
    assert conv.bias.any()


@pytest.mark.parametrize("dead", DEAD_SCALES)
@pytest.mark.parametrize("bias", [None, "int32", "own scale", "int8", "float"])
@pytest.mark.parametrize("op", OPERATORS)
def test_a_dead_channel(op: str, bias: str | None, dead: float):
    """It leaves the others as they are, and is its bias."""
    layer = scales(LayerModel(np.random.default_rng(8), op, bias))
    layer.weights = layer.without(1, 3)
    layer.scale[1] = dead
    holds(layer, layer.model())


@pytest.mark.parametrize("op", OPERATORS)
def test_weights_of_a_scale_that_makes_them_nothing(op: str):
    layer = scales(LayerModel(np.random.default_rng(9), op, "float"))
    layer.scale[2], layer.scale[4] = 0, 1e-40
    (conv, *_) = holds(layer, layer.model()).layers
    assert isinstance(conv, Conv)
    assert not conv.weights[[2, 4]].any()
    assert conv.weights[[0, 1, 3]].any(axis=(1, 2, 3)).all()
    whole = LayerModel(layer.rng, op, "float", scale=np.zeros((), np.float32))
    holds(whole, whole.model())


@pytest.mark.parametrize("large", [0.083745, 5.0, 1e3, 1e30, -np.inf])
@pytest.mark.parametrize("op", OPERATORS)
def test_a_bias_that_no_accumulator_holds(op: str, large: float):
    """Beside it the products of its channel are nothing."""
    bias = np.array([0.5, -0.5, large, -4.5, 1], np.float32)
    layer = scales(LayerModel(np.random.default_rng(10), op, bias))
    layer.scale[2] = 7.8e-10
    holds(layer, layer.model())


def test_a_bias_beyond_all_products_limits_the_result():
    layer = LayerModel(np.random.default_rng(11), "MatMul", np.array([1e30, -1e30, 1e9, 0, 1], np.float32))
    holds(layer, layer.model())


@pytest.mark.parametrize(("bias", "scale", "message"), [
    ([np.nan, 0, 0, 0, 0], 0.01, "Gemm 'layer': bias must be numbers; it has NaN"),
    ([0.013, 0, 0, 0, 0], 40.0, None),
    ([9e7, 0, 0, 0, 0], 1e-3, None),
    ([1.0, 0, 0, 0, 0], np.inf, "Gemm 'layer': weights must have finite scales of at least 0, not inf"),
    ([1.0, 0, 0, 0, 0], -0.1, "Gemm 'layer': weights must have finite scales of at least 0, not -0.1"),
])  # fmt: skip
def test_what_is_for_the_host(bias: list[float], scale: float, message: str | None):
    layer = LayerModel(np.random.default_rng(12), "Gemm", np.array(bias, np.float32), np.array(scale, np.float32))
    if message is None:
        holds(layer, layer.model())
        return
    with pytest.raises(UnsupportedError) as error:
        import_model(layer.model(), "net.onnx")
    assert message in str(error.value)


def test_a_bias_too_coarse_for_its_output():
    """A dequantized one is not rounded by ONNX Runtime: what it loses must be less than half a step."""
    layer = LayerModel(np.random.default_rng(13), "Gemm", "own scale", np.array(8, np.float32), spread=0.1)
    with pytest.raises(UnsupportedError, match="bias must be within half a step of the output"):
        import_model(layer.model(0.05))


LIMITS = (
    [("Max", [None, np.float32(0)]), ("Min", [None, np.float32(6)])],
    [("Min", [np.array([6], np.float32), None]), ("Max", [np.zeros((1, 1), np.float32), None])],
    [("Min", [None, np.float32(2), np.float32(1.5)]), ("Relu", [None])],
    [("Max", [None, np.float32(-0.7)])],
    [("Min", [None, np.float32(-1)]), ("Max", [None, np.float32(2)])],
    [("Clip", [None, np.float32(-3)]), ("Min", [None, np.float32(np.inf)]), ("Max", [None])],
)


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: "-".join(op for op, _ in limits))
@pytest.mark.parametrize("op", OPERATORS)
def test_minima_and_maxima_are_limits(op: str, limits: list):
    layer = LayerModel(np.random.default_rng(14), op, "float", limits=limits)
    graph = holds(layer, layer.model())
    assert all(isinstance(part, Conv) for part in graph.layers)


@pytest.mark.parametrize(("limit", "message"), [
    (("Max", [None, np.zeros(5, np.float32)]), "input '1' must be one float32 number"),
    (("Max", [None, np.float32(np.nan)]), "input '1' must be one float32 number"),
    (("Min", [np.zeros((1, 1, 1, 1, 1), np.float32), None]), "constants must have at most the 4 axes"),
])  # fmt: skip
def test_limits_for_the_host(limit: tuple, message: str):
    layer = LayerModel(np.random.default_rng(15), "Conv", limits=[limit])
    with pytest.raises(UnsupportedError, match=message):
        import_model(layer.model())


@pytest.mark.parametrize("op", ["QLinearConv", "QGemm"])
def test_dead_channels_of_quantized_operators(op: str):
    """Bit for bit what ONNX Runtime's kernels make of such scales, with a bias in their units."""
    rng, writer = np.random.default_rng(16), ModelWriter()
    shape, kernel = ((1, 3, 5, 4), (5, 3, 1, 1)) if op == "QLinearConv" else ((6, 3), (5, 3))
    weights = rng.integers(-128, 128, kernel).astype(np.int8)
    weights[1] = 0
    scale = np.array([0.01, 0.02, 0.0, 1e-40, 0.03], np.float32)
    bias = np.array([300, -200, 2**30, -(2**30), 5], np.int32)
    constants = [np.float32(0.05), np.uint8(9), weights, scale, np.zeros(5, np.int8)]
    ends = [np.float32(0.1), np.uint8(120)]
    x = writer.input("x", np.uint8, shape)
    given = [x, *(writer.constant(value) for value in constants)]
    after, last = [writer.constant(value) for value in ends], writer.constant(bias)
    if op == "QLinearConv":
        y = writer.node(op, [*given, *after, last])
    else:
        y = writer.node(op, [*given, last, *after], domain="com.microsoft", transB=1)
    writer.output(y, np.uint8, (*shape[:1], 5, *shape[2:]))
    agree(writer.model(), rng)
