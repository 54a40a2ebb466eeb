"""Add, multiply, averages and tables: against exact fractions, and against ONNX Runtime's quantized operators."""

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from systolith.numerics import ADD_BITS, add, add_constants, average_scale, look_up, output_scale, requantize
from tests.support.seeds import each_seed, many

INT8 = st.integers(-128, 127)
FACTOR = st.integers(-(1 << ADD_BITS), (1 << ADD_BITS) - 1)


@given(INT8, INT8, INT8, INT8, FACTOR, FACTOR, st.integers(0, 63), INT8, st.integers(-128, 0), st.integers(0, 127))
def test_add_is_exact(a, b, zero_a, zero_b, first, second, shift, zero_point, low, high):
    total = Fraction((a - zero_a) * first + (b - zero_b) * second, 1 << shift)
    wanted = min(max(round(total + zero_point), low), high)
    found = add(np.array([a], np.int8), np.array([b], np.int8), (zero_a, zero_b), (first, second, shift), zero_point,
                low, high)  # fmt: skip
    assert found.dtype == np.int8
    assert found[0] == wanted


def test_ties_go_to_the_even_sum_with_the_zero_point():
    a, none, halves = np.arange(-6, 7).astype(np.int8), np.zeros(1, np.int8), np.array([0.5], np.float32)
    even = [-3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3]
    odd = [-2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3, 4, 4]
    assert add(a, none, (0, 0), (1, 0, 1), 0).tolist() == even
    assert add(a, none, (0, 0), (1, 0, 1), 1).tolist() == odd
    assert requantize(a.astype(np.int32), halves, 1, joint=True).tolist() == odd
    assert requantize(a.astype(np.int32), halves, 1).tolist() == [value + 1 for value in even]


@given(*[st.floats(2**-20, 2**20, width=32)] * 3, st.sampled_from([1, -1]))
def test_constants_keep_the_ratios(a_scale, b_scale, y_scale, sign):
    ratios = [np.float32(scale) / np.float32(y_scale) for scale in (a_scale, b_scale)]
    if max(ratios) >= 1 << ADD_BITS:
        with pytest.raises(OverflowError):
            add_constants(a_scale, b_scale, y_scale, sign)
        return
    first, second, shift = add_constants(a_scale, b_scale, y_scale, sign)
    for multiplier, ratio in zip((first, sign * second), ratios, strict=True):
        assert abs(Fraction(multiplier, 1 << shift) - Fraction(float(ratio))) <= Fraction(1, 2 << shift)
        if ratio == max(ratios) and ratio >= 2.0**-30:
            assert Fraction(multiplier, 1 << shift) == Fraction(float(ratio))
    assert max(abs(first), abs(second)) <= 1 << ADD_BITS


def test_look_up_reads_unsigned_bytes():
    table = np.arange(256).astype(np.uint8).view(np.int8)
    values = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(look_up(values, table), values)
    assert look_up(np.array([-1, 0], np.int8), np.roll(table, 1)).tolist() == [-2, -1]


def run(op: str, arrays: dict[str, np.ndarray], names: list[str], constants: dict[str, np.generic]) -> np.ndarray:
    """A quantized operator of ONNX Runtime, on uint8."""
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], domain="com.microsoft")],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, array.shape) for name, array in arrays.items()],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, arrays)[0])


def scales(rng: np.random.Generator) -> tuple[np.float32, np.float32, np.float32]:
    """Of two inputs and an output; every second time powers of two apart, so that there are many ties."""
    exponents = rng.uniform(-3, 3, 3) if rng.random() < 0.5 else rng.integers(-3, 4, 3)
    a, b, y = (0.01 * np.exp2(exponents)).astype(np.float32)
    return a, b, y


def signed(values: np.ndarray) -> np.ndarray:
    """uint8 as the int8 it is carried as."""
    return (values ^ np.uint8(128)).view(np.int8)


def parameters(rng: np.random.Generator, names: str, values) -> dict[str, np.generic]:
    """Scale and zero point of each tensor: {"as": ..., "az": ..., ...}."""
    zeros = rng.integers(0, 256, len(names)).astype(np.uint8)
    return {k: v for name, scale, zero in zip(names, values, zeros, strict=True)
            for k, v in ((f"{name}s", scale), (f"{name}z", zero))}  # fmt: skip


NAMES = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]


def operands(seed: int) -> tuple[np.random.Generator, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, 25000)).astype(np.uint8)
    return rng, {"a": a, "b": b}


def test_multiply_differs_from_onnx_runtime_by_its_float_error_only():
    """QLinearMul rounds the float32 sum with the zero point: hardly ever another result, and then by one step."""
    elements = different = 0
    for seed in each_seed(range(many(40))):
        rng, x = operands(seed)
        s = scales(rng)
        s = (s[0], s[1], np.float32(s[0] * s[1] * 2 ** (rng.uniform(5, 8) if seed % 2 else rng.integers(5, 9))))
        c = parameters(rng, "aby", s)
        found = signed(run("QLinearMul", x, NAMES, c))
        zeros = [int(c[f"{name}z"]) - 128 for name in "aby"]
        products = (signed(x["a"]).astype(np.int32) - zeros[0]) * (signed(x["b"]).astype(np.int32) - zeros[1])
        mine = requantize(products, output_scale(float(s[0]), np.asarray(s[1]), float(s[2])), zeros[2], joint=True)
        steps = np.abs(mine.astype(int) - found)
        assert steps.max() <= 1
        elements, different = elements + steps.size, different + int(steps.sum())
    assert different <= elements * 5e-6, f"{different} of {elements}"


def test_add_differs_from_onnx_runtime_by_its_float_error_only():
    """QLinearAdd computes in float32: a few outputs in a million, by one step."""
    elements = different = 0
    for seed in each_seed(range(many(40))):
        rng, x = operands(seed)
        s = scales(rng)
        c = parameters(rng, "aby", s)
        found = signed(run("QLinearAdd", x, NAMES, c))
        zeros = [int(c[f"{name}z"]) - 128 for name in "aby"]
        constants = add_constants(*(float(scale) for scale in s))
        mine = add(signed(x["a"]), signed(x["b"]), (zeros[0], zeros[1]), constants, zeros[2])
        steps = np.abs(mine.astype(int) - found)
        assert steps.max() <= 1
        elements, different = elements + steps.size, different + int(steps.sum())
    assert different <= elements * 1e-5, f"{different} of {elements}"


def test_averages_equal_onnx_runtime():
    for seed in each_seed(range(many(20))):
        rng = np.random.default_rng(seed)
        size = tuple(rng.integers(1, 15, 2).tolist())
        x = rng.integers(0, 256, (1, 700, *size)).astype(np.uint8)
        c = parameters(rng, "xy", scales(rng)[:2])
        found = run("QLinearGlobalAveragePool", {"x": x}, ["x", "xs", "xz", "ys", "yz"], c)
        count = size[0] * size[1]
        total = signed(x).astype(np.int32).sum((2, 3), keepdims=True) - count * (int(c["xz"]) - 128)
        scale = average_scale(float(c["xs"]), float(c["ys"]), count)
        mine = requantize(total.astype(np.int32), np.asarray(scale), int(c["yz"]) - 128)
        assert np.array_equal(mine, signed(found)), f"seed {seed}"
