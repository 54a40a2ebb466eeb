"""Requantization three ways: the contract's NumPy function, plain integers, and ONNX Runtime. The lane's testbench
compares its Verilog."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from systolith import numerics
from systolith.hw.sfu.requantize import CONSTANTS_AFTER, LATENCY, requantize
from systolith.sim.testbench import requantize_bench
from systolith.sim.testbench.requantize_bench import expected, operands
from tests.support.seeds import seeds


@seeds(8, each=1)
def test_integers_equal_numpy(seed):
    values = operands(np.random.default_rng(seed), 300_000)
    wanted = expected(values).tolist()
    values["scale"] = values["scale"].view(np.uint32)
    found = [requantize(*row) for row in zip(*(v.tolist() for v in values.values()), strict=True)]
    different = [i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]
    assert not different, {name: column[different[0]] for name, column in values.items()}


def test_integers_equal_numpy_around_every_tie():
    """Every half integer up to 512, reached with powers of two, and with scales one step below and above."""
    halves = np.repeat(np.arange(-1023, 1024), 3)
    for exponent in (-30, -24, -20, -1):
        scale = np.full(len(halves), 2.0**exponent, np.float32)
        scale = (scale.view(np.int32) + np.tile(np.array([-1, 0, 1], np.int32), len(halves) // 3)).view(np.float32)
        totals = halves.astype(np.int64) << -exponent - 1
        fits = abs(totals) < 1 << 31
        for total, factor in zip(totals[fits].tolist(), scale[fits], strict=True):
            for joint in (False, True):
                wanted = int(numerics.requantize(np.int32(total), factor, 1, joint=joint))
                assert requantize(total, 0, int(factor.view(np.uint32)), 1, joint=joint) == wanted, (total, factor)


def test_numpy_equals_onnx_runtime():
    """QLinearConv of one pixel and one tap, so that the int32 bias is the accumulator."""
    rng = np.random.default_rng(5)
    channels = 20_000
    for x_scale, y_scale, zero_point in ((0.02, 0.05, 3), (1 / 3, 7.5, -128), (1e-4, 0.9, 0)):
        w_scale = np.exp(rng.uniform(-16, 2, channels)).astype(np.float32)
        scale = numerics.output_scale(x_scale, w_scale, y_scale)
        bias = np.clip(rng.normal(0, 60, channels) / scale, -(2**31 - 1), 2**31 - 1).astype(np.int32)
        found = _qlinear_conv(x_scale, w_scale, y_scale, zero_point, bias)
        assert np.array_equal(found, numerics.requantize(bias, scale, zero_point))


def _qlinear_conv(x_scale, w_scale, y_scale, zero_point, bias):
    channels = len(bias)
    constants = {
        "x_scale": np.float32(x_scale), "x_zero": np.int8(0), "w": np.zeros((channels, 1, 1, 1), np.int8),
        "w_scale": w_scale, "w_zero": np.zeros(channels, np.int8), "y_scale": np.float32(y_scale),
        "y_zero": np.int8(zero_point), "bias": bias,
    }  # fmt: skip
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"])
    graph = helper.make_graph(
        [node], "one",
        [helper.make_tensor_value_info("x", TensorProto.INT8, [1, 1, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [1, channels, 1, 1])],
        [helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), np.shape(value),
                            np.ravel(value).tolist()) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.zeros((1, 1, 1, 1), np.int8)})[0].ravel()


def test_the_testbench_knows_the_latencies():
    assert (requantize_bench.LATENCY, requantize_bench.CONSTANTS_AFTER) == (LATENCY, CONSTANTS_AFTER)
