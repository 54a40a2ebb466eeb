"""Weights with zero points of their own: bit-equal to ONNX Runtime."""

import numpy as np
import pytest

from systolith.compiler.pipeline import compile_model
from systolith.config import PRESETS
from systolith.sim.golden import golden
from systolith.sim.run import run
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, output

SCALE, ZERO = np.float32(0.02), np.uint8(100)
PAIRS = [(np.uint8, 3, 0, 130), (np.uint8, 200, 80, 255), (np.int8, -13, -128, 114), (np.int8, 5, -123, 127)]
WIDE = [(np.uint8, 0, 0, 255), (np.uint8, 255, 0, 255), (np.uint8, 114, 0, 255), (np.int8, -13, -128, 127)]
"""Type, zero point, least and largest weight."""


def model(op: str, weights: np.ndarray, zero_point: np.ndarray, **attributes) -> bytes:
    writer = ModelWriter(17)
    x = writer.input("x", np.uint8, (1, 4, 5, 5) if op == "QLinearConv" else (3, 4))
    scale = np.full(zero_point.shape, 0.01, np.float32)
    parameters = [writer.constant(value) for value in (SCALE, ZERO, weights, scale, zero_point, np.float32(0.1), ZERO)]
    y = writer.node(op, [x, *parameters], **attributes)
    return output(writer, y, np.dtype(np.uint8), 4 if op == "QLinearConv" else 2)


@pytest.mark.parametrize("op", ["QLinearConv", "QLinearMatMul"])
@pytest.mark.parametrize(("dtype", "zero_point", "low", "high"), PAIRS)
def test_zero_points(op, dtype, zero_point, low, high):
    rng = np.random.default_rng(1)
    shape = (6, 4, 3, 3) if op == "QLinearConv" else (4, 6)
    weights = rng.integers(low, high, shape, endpoint=True).astype(dtype)
    graph = agree(model(op, weights, np.array(zero_point, dtype)), rng)
    assert np.ptp(graph.layers[0].weights.astype(int)) > 90


def test_one_for_each_column():
    rng = np.random.default_rng(2)
    zero_points = np.array([-3, 0, 9, 2, -20, 1], np.int8)
    graph = agree(model("QLinearMatMul", rng.integers(-90, 90, (4, 6)).astype(np.int8), zero_points), rng)
    assert graph.layers[0].weights.shape == (6, 4, 1, 1)


@pytest.mark.parametrize("op", ["QLinearConv", "QLinearMatMul"])
@pytest.mark.parametrize(("dtype", "zero_point", "low", "high"), WIDE)
def test_what_does_not_fit_int8(op, dtype, zero_point, low, high):
    rng = np.random.default_rng(3)
    shape = (6, 4, 3, 3) if op == "QLinearConv" else (4, 6)
    weights = rng.integers(low, high, shape, endpoint=True).astype(dtype)
    weights.flat[:2] = low, high
    graph = agree(model(op, weights, np.array(zero_point, dtype)), rng)
    assert graph.layers[-1].macs(graph) == weights.size * (9 if op == "QLinearConv" else 3)


def test_one_zero_point_for_each_output():
    rng = np.random.default_rng(4)
    weights, zero_points = rng.integers(0, 256, (6, 4, 3, 3)).astype(np.uint8), np.arange(0, 240, 40).astype(np.uint8)
    agree(model("QLinearConv", weights, zero_points), rng)


@pytest.mark.parametrize("group", [2, 4])
def test_groups_that_do_not_fit_int8(group):
    """The input's channels come twice for each group; depthwise as well. Also as the accelerator runs it."""
    rng = np.random.default_rng(group)
    weights = rng.integers(0, 256, (8, 4 // group, 3, 3)).astype(np.uint8)
    data = model("QLinearConv", weights, np.array(9, np.uint8), group=group)
    graph = agree(data, rng)
    assert graph.layers[-1].macs(graph) == weights.size * 9
    x = rng.integers(0, 256, (1, 4, 5, 5)).astype(np.uint8)
    config = PRESETS["tiny4"]
    outputs, _ = run(compile_model(data, config), {"x": x}, config, "isa")
    assert (outputs[graph.outputs[0].name] == golden.run(graph, {"x": x})[graph.outputs[0].name]).all()


def dequantized(op: str, *shape: int, rank: int = 4, **attributes) -> bytes:
    """A layer between DequantizeLinear and QuantizeLinear whose weights reach from -120 to 135."""
    writer, rng = ModelWriter(17), np.random.default_rng(5)
    x = writer.dequantize(writer.input("x", np.uint8, (2, 4, 3, 3)), SCALE, ZERO)
    if rank == 2:
        x = writer.node("Flatten", [x])
    weights = rng.integers(0, 256, shape).astype(np.uint8)
    weights.flat[:2] = 0, 255
    y = writer.node(op, [x, writer.dequantize(writer.constant(weights), 0.01, np.uint8(120))], **attributes)
    return output(writer, writer.quantize(y, 0.2, ZERO), np.dtype(np.uint8), rank)


@pytest.mark.parametrize("data", [
    dequantized("Conv", 6, 4, 3, 3), dequantized("Conv", 4, 1, 3, 3, group=4, pads=[1] * 4),
    dequantized("ConvTranspose", 4, 5, 3, 3, strides=[2, 2]), dequantized("MatMul", 36, 5, rank=2),
    dequantized("ConvTranspose", 4, 2, 2, 2, strides=[2, 2], group=2), dequantized("Gemm", 5, 36, rank=2, transB=1),
])  # fmt: skip
def test_asymmetric_weights_behind_their_dequantize(data):
    """As quantizers write uint8 models; the matrix is a flattened image. ConvTranspose is float32 in ONNX Runtime."""
    agree(data, np.random.default_rng(6), steps=int(b"ConvTranspose" in data))
