"""One layer of each kind that quantizers seldom write, on the RTL: as golden to the bit, as ONNX Runtime to a step."""

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.pipeline import compile_model
from systolith.config import PRESETS
from systolith.sim.golden import golden
from systolith.sim.run import run
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import unoptimized
from tests.support.layer_models import OPERATORS, LayerModel

pytestmark = pytest.mark.rtl

TINY = PRESETS["tiny4"]


def holds(model: bytes, seed: int) -> None:
    program = compile_model(model, TINY)
    rng = np.random.default_rng(seed)
    inputs = {port.name: rng.integers(0, 256, port.shape).astype(np.uint8).view(port.dtype) for port in program.inputs}
    outputs, report = run(program, inputs, TINY, "rtl")
    assert report["cycles"] > 0
    expected = golden.run(import_model(model), inputs)
    for name, theirs in unoptimized(model, inputs).items():
        assert (outputs[name].shape, outputs[name].dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_array_equal(outputs[name], expected[name])
        np.testing.assert_allclose(outputs[name].astype(int), theirs.astype(int), rtol=0, atol=1)


@pytest.mark.parametrize("op", OPERATORS)
def test_foreign_biases_dead_channels_and_limits(op: str):
    limits: list = [("Max", [None, np.float32(-2)]), ("Min", [np.float32(4), None])]
    for seed, bias in enumerate(("own scales", "int8", "zero point", "float")):
        layer = LayerModel(np.random.default_rng(seed), op, bias, limits=limits)
        layer.scale = np.array([0.01, 0.02, 0.0, 1e-40, 0.004], np.float32)
        layer.weights = layer.without(2)
        holds(layer.model(), seed)


@pytest.mark.parametrize("opset", [13, 22])
def test_averages_of_counted_pads(opset: int):
    writer = ModelWriter(opset)
    x = writer.dequantize(writer.input("x", np.int8, (2, 6, 9, 12)), 0.05, np.int8(-100))
    y = writer.node("AveragePool", [x], kernel_shape=[3, 2], strides=[2, 3], pads=[1, 1, 1, 0], ceil_mode=1,
                    count_include_pad=1)  # fmt: skip
    writer.output(writer.quantize(y, 0.041, np.int8(-90)), np.int8, [2, 6, 5, 5])
    holds(writer.model(), 1)


@pytest.mark.parametrize("along_pixels", [False, True])
def test_products_with_factors_and_weights_on_the_left(along_pixels: bool):
    writer, rng = ModelWriter(17), np.random.default_rng(2)
    x = writer.dequantize(writer.input("x", np.int8, (9, 6)), 0.05, np.int8(-7))
    if along_pixels:
        w = writer.dequantize(writer.constant(rng.integers(-128, 128, (1, 6, 6)).astype(np.int8)), 0.01, np.int8(0))
        first = writer.quantize(writer.node("MatMul", [x, w]), 0.1, np.int8(3))
        writer.output(first, np.int8, (1, 9, 6))
    left = writer.dequantize(writer.constant(rng.integers(-128, 128, (5, 9)).astype(np.int8)), 0.01, np.int8(0))
    y = writer.node("MatMul", [left, x])
    writer.output(writer.quantize(y, 0.1, np.int8(0)), np.int8, (5, 6))
    holds(writer.model(), 3)
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.int8, (6, 9)), 0.05, np.int8(-7))
    w = writer.dequantize(writer.constant(rng.integers(-128, 128, (5, 6)).astype(np.int8)), 0.01, np.int8(0))
    bias = writer.constant(rng.normal(0, 1, 5).astype(np.float32))
    y = writer.node("Gemm", [x, w, bias], alpha=-0.7, beta=2.0, transA=1, transB=1)
    writer.output(writer.quantize(y, 0.1, np.int8(0)), np.int8, (9, 5))
    holds(writer.model(), 4)


def test_weights_with_scales_behind_views():
    writer, rng = ModelWriter(17), np.random.default_rng(5)
    x = writer.dequantize(writer.input("x", np.uint8, (1, 6, 4, 5)), 0.05, np.uint8(120))
    scales = rng.uniform(0.005, 0.02, 7).astype(np.float32)
    stored = writer.constant(rng.integers(-128, 128, (6, 7)).astype(np.int8))
    w = writer.node("Transpose", [writer.dequantize(stored, scales, np.zeros(7, np.int8), axis=1)], perm=[1, 0])
    w = writer.node("Reshape", [w, writer.constant(np.array([7, 6, 1, 1], np.int64))])
    writer.output(writer.quantize(writer.node("Conv", [x, w]), 0.2, np.uint8(128)), np.uint8, (1, 7, 4, 5))
    holds(writer.model(), 6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
def test_an_output_without_axes(dtype):
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.int8, (1, 1, 4, 5)), 0.05, np.int8(0))
    y = writer.node("Squeeze", [writer.node("GlobalAveragePool", [x])])
    zero_point = np.uint8(128) if dtype == np.uint8 else np.int8(0)
    y = writer.quantize(y, 0.031, zero_point)
    writer.output(writer.dequantize(y, 0.031, zero_point) if dtype == np.float32 else y, dtype, ())
    holds(writer.model(), 7)
