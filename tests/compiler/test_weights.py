"""Weights with zero points of their own: bit-equal to ONNX Runtime."""

import numpy as np
import pytest
from compare import agree, output

from systolith.compiler.frontend.importer import import_model
from systolith.errors import UnsupportedError
from systolith.sim.model_writer import ModelWriter

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


def test_groups_must_fit():
    with pytest.raises(UnsupportedError, match="without their zero point must fit int8, not reach from 200 to 200"):
        import_model(model("QLinearConv", np.full((6, 2, 3, 3), 200, np.uint8), np.array(0, np.uint8), group=2))
