"""Gemm and MatMul with every attribute and with weights on either side, against ONNX Runtime."""

from typing import Any

import numpy as np
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Conv
from systolith.errors import UnsupportedError
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.against_onnxruntime import agree, finish, unoptimized
from tests.support.seeds import seeds

SCALE, ZERO = 0.05, np.int8(-7)
OUT = 0.2, np.int8(3)


def product(op: str, x: tuple[int, ...], w: tuple[int, ...], left: bool = False, axis: int | None = None,
            bias: Any = None, seed: int = 1, **attributes: Any) -> bytes:  # fmt: skip
    """DequantizeLinear of x, times constant weights on its right or `left`, QuantizeLinear. The weights have one scale
    or one for each index of `axis`; `bias` is float32, or int32 of the accumulator's scale."""
    rng = np.random.default_rng(seed)
    writer = ModelWriter()
    real = writer.dequantize(writer.input("x", np.int8, x), SCALE, ZERO)
    count = () if axis is None else w[axis]
    scale = rng.uniform(0.004, 0.02, count).astype(np.float32)
    stored = writer.constant(rng.integers(-128, 128, w).astype(np.int8))
    many = {} if axis is None else {"axis": axis}
    operands = [real, writer.dequantize(stored, scale, np.zeros(count, np.int8), **many)]
    if bias is not None and np.asarray(bias).dtype == np.int32:
        operands.append(writer.dequantize(writer.constant(bias), np.float32(SCALE) * scale, np.zeros(count, np.int32),
                                          **({"axis": 0} if many else {})))  # fmt: skip
    elif bias is not None:
        operands.append(writer.constant(np.asarray(bias, np.float32)))
    if left:
        operands[:2] = operands[1::-1]
    y = writer.node(op, operands, "product", **attributes)
    rank = max(len(x), len(w)) if len(x) > 1 else len(w) - 1
    return finish(writer, y, *OUT, rank)


@pytest.mark.parametrize("alpha", [0.5, -1.0, 0.3, -2.7, 0.0, 1e-30])
@seeds(3)
def test_alpha_is_a_factor_of_the_scale(alpha: float, seed: int):
    """Bit for bit: ONNX Runtime's QGemm takes it so."""
    axis = None if seed else 1
    agree(product("Gemm", (20, 6), (6, 5), axis=axis, alpha=alpha, seed=seed), np.random.default_rng(seed))


@pytest.mark.parametrize("alpha", [1.0, 0.5, -2.0])
@pytest.mark.parametrize("beta", [1.0, 2.0, -0.3, 0.0])
@pytest.mark.parametrize("bias", [np.arange(-400, 600, 200).astype(np.int32), [0.5, -3, 1, 0, 2], 1.5,
                                  [[1, 2, 3, -4, 5]]], ids=["int32", "float", "one", "row"])  # fmt: skip
def test_beta_is_a_factor_of_the_bias(alpha: float, beta: float, bias: Any):
    model = product("Gemm", (20, 6), (6, 5), bias=bias, alpha=alpha, beta=beta)
    agree(model, np.random.default_rng(3), steps=1, run=unoptimized)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, [0.5, -3, 1, 0, 2]])
def test_the_transposed_of_a_matrix(transposed: int, bias: Any):
    """Of an input that nothing else reads it is a view."""
    w = (5, 6) if transposed else (6, 5)
    model = product("Gemm", (6, 7), w, axis=1 - transposed, bias=bias, transA=1, transB=transposed)
    (layer,) = agree(model, np.random.default_rng(4)).layers
    assert isinstance(layer, Conv)
    assert layer.groups == 1


def test_qgemm_with_alpha_and_a_transposed_input():
    writer = ModelWriter()
    rng = np.random.default_rng(5)
    w = rng.integers(-128, 128, (6, 5)).astype(np.int8)
    constants = [np.float32(SCALE), ZERO, w, np.float32(0.01), np.int8(0), np.arange(-500, 2000, 500).astype(np.int32),
                 np.float32(0.2), np.int8(3)]  # fmt: skip
    x_scale, x_zero, weights, w_scale, w_zero, bias, y_scale, y_zero = (writer.constant(value) for value in constants)
    x = writer.input("x", np.int8, (6, 7))
    y = writer.node("QGemm", [x, x_scale, x_zero, weights, w_scale, w_zero, bias, y_scale, y_zero], "gemm",
                    "com.microsoft", alpha=0.7, transA=1)  # fmt: skip
    writer.output(y, np.int8, (7, 5))
    agree(writer.model(), rng)


@pytest.mark.parametrize(("x", "w", "axis"), [
    ((4, 6), (1, 6, 5), None), ((4, 6), (1, 6, 5), 2), ((4, 6), (1, 1, 6, 5), None), ((2, 4, 6), (1, 6, 5), 2),
    ((2, 3, 4, 6), (1, 6, 5), None), ((6,), (6, 5), 1), ((6,), (1, 6, 5), None)])  # fmt: skip
def test_weights_with_axes_of_size_1(x: tuple[int, ...], w: tuple[int, ...], axis: int | None):
    """ONNX Runtime's QLinearMatMul refuses some of them."""
    agree(product("MatMul", x, w, axis=axis), np.random.default_rng(6), run=unoptimized)


@pytest.mark.parametrize(("x", "w", "axis"), [
    ((4, 6), (3, 4), None), ((4, 6), (3, 4), 0), ((2, 4, 6), (3, 4), 0), ((4, 6), (1, 3, 4), 1), ((4,), (3, 4), 0),
    ((2, 4, 6), (1, 3, 4), None), ((4,), (1, 3, 4), None)])  # fmt: skip
def test_weights_on_the_left(x: tuple[int, ...], w: tuple[int, ...], axis: int | None):
    """The transposed product of the transposed matrices."""
    (layer,) = agree(product("MatMul", x, w, left=True, axis=axis), np.random.default_rng(7), run=unoptimized).layers
    assert isinstance(layer, Conv)
    assert layer.groups == 1


def both_ways(writer: ModelWriter, second: str, bias: Any = None, size: int = 4) -> str:
    """A matrix [size, 6] read by its rows, and then along them."""
    rng = np.random.default_rng(8)
    x = writer.dequantize(writer.input("x", np.int8, (size, 6)), SCALE, ZERO)
    w = [writer.dequantize(writer.constant(rng.integers(-128, 128, shape).astype(np.int8)), scale,
                           np.zeros(np.shape(scale), np.int8), **({"axis": 0} if np.ndim(scale) else {}))
         for shape, scale in (((6, 6), 0.01), ((3, size), [0.01, 0.02, 0.03]))]  # fmt: skip
    first = writer.quantize(writer.node("MatMul", [x, w[0]]), *OUT)
    writer.output(first, np.int8, (size, 6))
    x = writer.dequantize(first, *OUT)
    if second == "Gemm":
        return writer.node("Gemm", [x, w[1], *([] if bias is None else [writer.constant(bias)])], "second", transA=1,
                           transB=1)  # fmt: skip
    y = writer.node("MatMul", [w[1], x], "second")
    return y if bias is None else writer.node("Add", [y, writer.constant(bias)])


@pytest.mark.parametrize(("second", "shape"), [("Gemm", (3,)), ("MatMul", (3, 1))])
@pytest.mark.parametrize("with_bias", [False, True])
def test_products_along_pixels(second: str, shape: tuple[int, ...], with_bias: bool):
    """Of a matrix whose columns are channels already: sums over the pixels of each channel."""
    writer = ModelWriter()
    bias = np.array([-1, 0.5, 2], np.float32).reshape(shape) if with_bias else None
    graph = agree(finish(writer, both_ways(writer, second, bias), *OUT, 2), np.random.default_rng(9), steps=1,
                  run=unoptimized)  # fmt: skip
    layer = graph.layers[1]
    assert isinstance(layer, Conv)
    assert (layer.groups, layer.weights.shape) == (6, (18, 1, 1, 4))


def test_products_along_many_pixels_are_for_the_host():
    writer = ModelWriter()
    model = finish(writer, both_ways(writer, "MatMul", size=1 << 14), *OUT, 2)
    with pytest.raises(UnsupportedError, match="MatMul 'second': products along pixels must be at most 262144, not"):
        import_model(model)


@pytest.mark.parametrize(("model", "message"), [
    (product("MatMul", (2, 4, 6), (2, 6, 5)), "weights must be a matrix, not of shape (2, 6, 5)"),
    (product("MatMul", (4, 6), (6,)), "weights must be a matrix, not of shape (6,)"),
    (product("MatMul", (4, 6), (6, 5), axis=0), "must have their scales along the output axis 1, not along 0"),
    (product("MatMul", (4, 6), (3, 4), left=True, axis=1), "along the output axis 0, not along 1"),
    (product("Gemm", (4, 6), (6, 5), bias=np.zeros((4, 5))), "one for each channel (1, 5), not (4, 5)"),
])  # fmt: skip
def test_products_for_the_host(model: bytes, message: str):
    with pytest.raises(UnsupportedError) as error:
        import_model(model)
    assert message in str(error.value)
