"""Requantization: against exact float32 arithmetic done with integers, and against ONNX Runtime's QLinearConv."""

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from systolith.numerics import output_scale, requantize, round_to_float32


def rounded(value: Fraction, bits: int) -> Fraction:
    """The nearest value of `bits` significant bits, ties to even: what IEEE arithmetic does, done with integers."""
    if value == 0:
        return value
    magnitude, exponent = abs(value), 0
    while magnitude >= 1 << bits:
        magnitude, exponent = magnitude / 2, exponent + 1
    while magnitude < 1 << bits - 1:
        magnitude, exponent = magnitude * 2, exponent - 1
    return (1 if value > 0 else -1) * round(magnitude) * Fraction(2) ** exponent


def exact(accumulator: int, scale: np.float32, zero_point: int, low: int, high: int) -> int:
    product = rounded(rounded(Fraction(accumulator), 24) * Fraction(float(scale)), 24)
    return min(max(round(product) + zero_point, low), high)


@given(
    st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300) | st.integers(2**24 - 4, 2**24 + 4),
    st.floats(2**-40, 2**10, width=32) | st.sampled_from([0.5, 1.0, 2**-10, 1 / 3]),
    st.integers(-128, 127),
    st.integers(-128, 0),
    st.integers(0, 127),
)
def test_requantize_is_three_roundings_to_nearest_even(accumulator, scale, zero_point, low, high):
    scale = np.float32(scale)
    result = requantize(np.array([accumulator], np.int32), np.array([scale]), zero_point, low, high)
    assert result.dtype == np.int8
    assert result[0] == exact(accumulator, scale, zero_point, low, high)


def test_ties_go_to_even():
    accumulators = np.array([-5, -3, -1, 1, 3, 5], np.int32)
    assert requantize(accumulators, np.array([0.5], np.float32), 0).tolist() == [-2, -2, 0, 0, 2, 2]


def test_accumulators_round_from_2_to_the_24():
    assert round_to_float32(np.array([2**24 + 1, 2**24 + 3, 2**31 - 1], np.int32)).tolist() == [2**24, 2**24 + 4, 2**31]


def test_far_outside_saturates():
    values = np.array([-(2**31), 2**31 - 1], np.int32)
    assert requantize(values, np.array([1e30], np.float32), 5).tolist() == [-128, 127]
    assert requantize(values, np.ones(1, np.float32), 127, -100, 100).tolist() == [-100, 100]


def test_output_scale_is_float32_at_every_step():
    rng = np.random.default_rng(1)
    x, w, y = rng.uniform(1e-4, 1, 3000).astype(np.float32).reshape(3, 1000)
    found = np.array([output_scale(float(a), b, float(c)) for a, b, c in zip(x, w, y, strict=True)])
    expected = [
        rounded(rounded(Fraction(float(a)) * Fraction(float(b)), 24) / Fraction(float(c)), 24)
        for a, b, c in zip(x, w, y, strict=True)
    ]
    assert found.dtype == np.float32
    assert [Fraction(float(f)) for f in found] == expected


@pytest.mark.parametrize("unsigned", [False, True])
def test_equals_onnx_runtime(unsigned):
    """A convolution of one channel by 64 random weights, biases, scales; a single tap cannot saturate inside."""
    rng = np.random.default_rng(2)
    dtype, shift = (np.uint8, 128) if unsigned else (np.int8, 0)
    x = np.arange(256).reshape(1, 1, 16, 16) - 128
    x_zero, y_zero = 3, -7
    weights = rng.integers(-127, 128, 64)
    bias = (rng.integers(-(2**30), 2**30, 64) >> rng.integers(0, 28, 64)).astype(np.int32)
    x_scale, y_scale = np.float32(0.0173), np.float32(0.0931)
    w_scale = np.exp2(rng.uniform(-22, 2, 64)).astype(np.float32)
    tensors = {
        "xs": x_scale, "xz": dtype(x_zero + shift), "w": weights.astype(np.int8).reshape(64, 1, 1, 1), "ws": w_scale,
        "wz": np.zeros(64, np.int8), "ys": y_scale, "yz": dtype(y_zero + shift), "b": bias,
    }  # fmt: skip
    kind = TensorProto.UINT8 if unsigned else TensorProto.INT8
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 1, 16, 16])],
        [helper.make_tensor_value_info("y", kind, [1, 64, 16, 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": (x + shift).astype(dtype)})
    accumulator = ((x.reshape(256, 1) - x_zero) * weights + bias).astype(np.int32)
    ours = requantize(accumulator, output_scale(float(x_scale), w_scale, float(y_scale)), y_zero)
    assert np.array_equal(np.asarray(found).astype(int) - shift, ours.T.reshape(1, 64, 16, 16))
    assert len(np.unique(ours)) > 200
