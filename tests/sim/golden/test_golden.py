"""The golden model against ONNX Runtime on random layers, against loops, and its refusal of wrong inputs."""

import itertools

import numpy as np
import onnxruntime
import pytest

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Conv
from systolith.errors import SystolithError
from systolith.sim.golden import golden
from systolith.sim.golden.convolution import convolve
from systolith.sim.host import tensors
from systolith.sim.reference import reference
from systolith.sim.stimulus.layers import KINDS, random_layer
from systolith.sim.stimulus.model import Limits
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.seeds import each_seed, many

LAYERS = 60
LARGE = Limits(channels=96, size=28, kernel=7, features=600, rows=64, macs=8_000_000)


def differences(model: bytes, inputs: dict) -> tuple[int, int, float]:
    """Elements compared, elements that differ, and the largest difference in steps of the quantized output."""
    graph = import_model(model)
    mine, theirs = golden.run(graph, inputs), reference.run(model, inputs)
    assert mine.keys() == theirs.keys()
    count, different, largest = 0, 0, 0.0
    for port in graph.outputs:
        y, expected = mine[port.name], theirs[port.name]
        assert y.dtype == expected.dtype
        assert y.shape == expected.shape
        step = graph.values[port.value].scale if port.dtype == "float32" else 1
        count, different = count + y.size, different + int((y != expected).sum())
        largest = max(largest, float(np.abs(y.astype(np.float64) - expected).max()) / step)
    return count, different, largest


@pytest.mark.skipif(reference.saturates(), reason="ONNX Runtime saturates at 16 bits on this processor")
@pytest.mark.parametrize(("kind", "limits", "layers"), [
    *((kind, Limits(), LAYERS) for kind in KINDS), ("qlinearconv", LARGE, 6), ("qdq_conv", LARGE, 6),
    ("qdq_gemm", LARGE, 6), ("chain", LARGE, 6)])  # fmt: skip
def test_equals_onnx_runtime(kind, limits, layers):
    """Bit for bit wherever ONNX Runtime computes in integers; elsewhere within one step, and rarely."""
    elements = in_float = 0
    for seed in each_seed(range(many(layers))):
        model, inputs = random_layer(np.random.default_rng([KINDS.index(kind), seed]), kind, limits)
        count, different, largest = differences(model, inputs)
        elements += count
        if different:
            assert reference.float_operators(model), f"seed {[KINDS.index(kind), seed]}: {different} of {count} differ"
            assert largest < 1.001, f"seed {[KINDS.index(kind), seed]}: {largest} steps"
            in_float += different
    assert in_float <= elements / 10_000, f"{in_float} of {elements} differ"


def test_comparison_can_fail():
    """A wrong bias is seen."""
    model, inputs = random_layer(np.random.default_rng(5), "qlinearconv")
    graph = import_model(model)
    layer = graph.layers[0]
    layer.bias[:] += int(np.ceil(3 / layer.scale.min()))
    (y,), (expected,) = golden.run(graph, inputs).values(), reference.run(model, inputs).values()
    assert (y != expected).any()


@pytest.mark.parametrize(("groups", "stride", "dilation", "pads"), [
    (1, (1, 1), (1, 1), (0, 0, 0, 0)), (1, (2, 1), (1, 2), (1, 0, 2, 3)),
    (2, (1, 2), (2, 1), (0, 2, 1, 0))])  # fmt: skip
def test_convolve_equals_loops(groups, stride, dilation, pads):
    """Accumulators against the definition, written as loops."""
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (2, 4, 6, 7)).astype(np.int8)
    weights = rng.integers(-128, 128, (6, 4 // groups, 2, 3)).astype(np.int8)
    bias = rng.integers(-1000, 1000, 6).astype(np.int32)
    layer = Conv("c", "Conv", "x", "y", weights, bias, np.ones(6, np.float32), stride, dilation, pads, groups)
    sums = convolve(layer, x, 17)
    rows, columns = layer.output_size(6, 7)
    assert sums.shape == (2, rows, columns, 6)
    for b, row, column, o in itertools.product(range(2), range(rows), range(columns), range(6)):
        total = int(bias[o])
        for c, ky, kx in itertools.product(range(4 // groups), range(2), range(3)):
            y0 = row * stride[0] - pads[0] + ky * dilation[0]
            x0 = column * stride[1] - pads[1] + kx * dilation[1]
            if 0 <= y0 < 6 and 0 <= x0 < 7:
                channel = o // (6 // groups) * (4 // groups) + c
                total += (int(x[b, channel, y0, x0]) - 17) * int(weights[o, c, ky, kx])
        assert sums[b, row, column, o] == total


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantization_equals_onnx_runtime(dtype):
    """QuantizeLinear and DequantizeLinear of the host: ties, infinities, tiny and huge numbers."""
    rng = np.random.default_rng(2)
    specials = [0, -0.0, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, 0.5, 1.5, 2.5, -0.5, -1.5]
    x = np.concatenate([specials, rng.normal(0, 50, 5000), np.arange(-300, 300) / 2]).astype(np.float32)
    shift = 128 if dtype == np.uint8 else 0
    for scale, zero_point in [(1.0, 0), (0.37, 5), (1e-30, 100), (3e38, 7)]:
        writer = ModelWriter(13)
        q = writer.quantize(writer.input("x", np.float32, x.shape), scale, dtype(zero_point))
        writer.output(q, dtype, x.shape)
        d = writer.output(writer.dequantize(q, scale, dtype(zero_point)), np.float32, x.shape)
        session = onnxruntime.InferenceSession(writer.model(), providers=["CPUExecutionProvider"])
        quantized, dequantized = session.run([q, d], {"x": x})
        mine = tensors.quantize(x, scale, zero_point - shift)
        assert (mine.astype(int) + shift == quantized).all()
        assert (tensors.dequantize(mine, scale, zero_point - shift) == dequantized).all()


def test_run_values():
    """Every value of the graph is there, as int8 in the graph's dims."""
    model, inputs = random_layer(np.random.default_rng(3), "chain")
    graph = import_model(model)
    values = golden.run_values(graph, inputs)
    assert values.keys() == graph.values.keys()
    assert all(values[name].shape == value.dims for name, value in graph.values.items())
    assert all(array.dtype == np.int8 for array in values.values())


@pytest.mark.parametrize(("inputs", "message"), [
    ({}, "Inputs must have 'x'; 'x' is missing"),
    ({"x": np.zeros((1, 3), np.float32), "y": np.zeros(1)}, "Inputs must be 'x'; there is no 'y'"),
    ({"x": np.zeros((1, 4), np.float32)}, "Input 'x' must have shape (1, 3), not (1, 4)"),
    ({"x": np.zeros((1, 3), np.float64)}, "Input 'x' must be float32, not float64"),
    ({"x": np.full((1, 3), np.nan, np.float32)}, "Input 'x' must be numbers; it has NaN")])  # fmt: skip
def test_wrong_inputs(inputs, message):
    writer = ModelWriter()
    x = writer.quantize(writer.input("x", np.float32, (1, 3)), 0.1, np.int8(0))
    weights = writer.dequantize(writer.constant(np.ones((3, 2), np.int8)), 0.1, np.int8(0))
    y = writer.node("MatMul", [writer.dequantize(x, 0.1, np.int8(0)), weights])
    writer.output(writer.quantize(y, 0.1, np.int8(0)), np.int8, (1, 2))
    with pytest.raises(SystolithError) as error:
        golden.run(import_model(writer.model()), inputs)
    assert str(error.value) == message


def test_reference_refuses_in_one_line():
    with pytest.raises(SystolithError, match="ONNX Runtime refuses the model") as error:
        reference.run(b"nonsense", {})
    assert "\n" not in str(error.value)
