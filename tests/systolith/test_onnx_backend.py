"""ONNX's backend interface: as ONNX's tools use it, and in what it refuses."""

import unittest
import warnings

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt, Runner

from systolith import onnx_backend
from systolith.errors import SystolithError, UnsupportedError
from systolith.onnx_backend import SystolithBackend, Unsupported, prepare, run_model, run_node
from systolith.sim import reference
from systolith.sim.model_writer import ModelWriter

SCALE, ZERO = np.float32(0.1), np.int8(3)
RNG = np.random.default_rng(0)


def qlinear_conv() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model whose weights and scales are inputs, and these inputs."""
    inputs = {
        "x": RNG.integers(-128, 128, (1, 3, 5, 5)).astype(np.int8), "x_scale": SCALE, "x_zero": ZERO,
        "w": RNG.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8), "w_scale": SCALE, "w_zero": np.int8(0),
        "y_scale": np.float32(30), "y_zero": ZERO,
    }  # fmt: skip
    arrays = {name: np.asarray(values) for name, values in inputs.items()}
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)
        for name, values in arrays.items()
    ]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.INT8, (1, 4, 3, 3))
    graph = helper.make_graph([helper.make_node("QLinearConv", list(inputs), ["y"])], "conv", ports, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), inputs


def tanh(batch: int | str = 2) -> onnx.ModelProto:
    writer = ModelWriter(17)
    x = writer.dequantize(writer.input("x", np.int8, (batch, 3, 4, 4)), SCALE, ZERO)
    writer.output(writer.quantize(writer.node("Tanh", [x]), 0.01, ZERO), np.int8, (batch, 3, 4, 4))
    return onnx.load_from_string(writer.model())


def expected(model: onnx.ModelProto, inputs: dict) -> list[np.ndarray]:
    given = {name: np.asarray(values) for name, values in inputs.items()}
    return list(reference.run(model.SerializeToString(), given).values())


@pytest.mark.parametrize("backend", ["golden", "isa"])
def test_weights_as_inputs(backend):
    model, inputs = qlinear_conv()
    prepared = prepare(model, config="tiny4", backend=backend, strict=True)
    for _ in range(2):
        np.testing.assert_array_equal(prepared.run(inputs)[0], expected(model, inputs)[0])
    assert len(prepared._networks) == 1
    inputs["w"] = -(inputs["w"] // 2)
    np.testing.assert_array_equal(prepared.run(list(inputs.values()))[0], expected(model, inputs)[0])
    assert len(prepared._networks) == 2
    inputs["x"] = inputs["x"] // 2
    np.testing.assert_array_equal(prepared.run(inputs).y, expected(model, inputs)[0])
    assert len(prepared._networks) == 2


@pytest.mark.parametrize("batch", [2, "batch"])
def test_batches(batch):
    model = tanh(batch)
    prepared = prepare(model, config="tiny4")
    for size in (2, 1, 3) if batch == "batch" else (2,):
        x = RNG.integers(-128, 128, (size, 3, 4, 4)).astype(np.int8)
        np.testing.assert_array_equal(prepared.run(x)[0], expected(model, {"x": x})[0])


def test_run_node():
    x = RNG.integers(0, 255, (1, 4, 6, 6)).astype(np.uint8)
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    info = [(np.uint8, (1, 4, 3, 3))]
    for options in ({}, {"outputs_info": info}, {"opset_version": 13}):
        (y,) = run_node(node, [x], config="tiny4", **options)
        np.testing.assert_array_equal(y, x.reshape(1, 4, 3, 2, 3, 2).max((3, 5)))


def test_float_models_are_quantized_if_asked():
    x = RNG.normal(0, 1, (2, 3, 4, 4)).astype(np.float32)
    writer = ModelWriter(17)
    writer.output(writer.node("Tanh", [writer.input("x", np.float32, x.shape)]), np.float32, x.shape)
    model = onnx.load_from_string(writer.model())
    (y,) = run_model(model, x, config="tiny4", strict=True, quantize=True)
    assert np.abs(y - np.tanh(x)).max() < 0.02
    with pytest.raises(Unsupported, match="Tanh 'tanh_0': inputs must be constants and DequantizeLinear"):
        run_model(model, x, config="tiny4")


def test_refusals_are_skips_for_onnx():
    assert issubclass(Unsupported, BackendIsNotSupposedToImplementIt)
    assert issubclass(Unsupported, UnsupportedError)
    assert not SystolithBackend.is_compatible(_softmax(), config="tiny4")
    assert SystolithBackend.is_compatible(tanh(), config="tiny4")
    with pytest.raises(Unsupported, match="operator Softmax is not supported"):
        prepare(_softmax())


def test_devices():
    names = [name for name in ("CPU", "CPU:0", "CUDA", "CUDA:1") if onnx_backend.supports_device(name)]
    assert names == ["CPU", "CPU:0"]
    with pytest.raises(SystolithError, match="Device must be CPU, where the simulators run, not 'CUDA'"):
        prepare(tanh(), "CUDA")


@pytest.mark.parametrize(("options", "message"), [
    ({"speed": 3}, "Options must be some of config, backend, strict, quantize, not speed"),
    ({"config": "tiny5"}, "Configuration must be one of"),
])  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(SystolithError, match=message):
        prepare(tanh(), **options)


def test_bad_inputs():
    prepared = prepare(tanh(), config="tiny4")
    x = np.zeros((2, 3, 4, 4), np.int8)
    with pytest.raises(SystolithError, match=r"Inputs must be 1 \(x\), not 2"):
        prepared.run([x, x])
    with pytest.raises(SystolithError, match="Input 'x' must be int8, not uint8"):
        prepared.run(x.astype(np.uint8))
    with pytest.raises(SystolithError, match="'x' is missing"):
        prepared.run({})
    with pytest.raises(SystolithError, match="run must have no options but the inputs, not fast"):
        prepared.run(x, fast=True)


def test_onnx_runs_its_tests_against_it():
    """ONNX's own runner, on a few of its tests: passed or skipped by name."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # Its tests' inputs are made as they load, some out of range.
        cases = Runner(SystolithBackend, __name__).test_cases["OnnxBackendNodeModelTest"]
    for name in ("test_maxpool_2d_uint8_cpu", "test_dequantizelinear_cpu", "test_qlinearconv_cpu", "test_celu_cpu"):
        result = unittest.TestResult()
        cases(name).run(result)
        assert (result.testsRun, result.failures, result.errors) == (1, [], [])


def _softmax() -> onnx.ModelProto:
    writer = ModelWriter(17)
    writer.output(writer.node("Softmax", [writer.input("x", np.float32, (2, 3))]), np.float32, (2, 3))
    return onnx.load_from_string(writer.model())
