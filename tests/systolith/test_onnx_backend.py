"""ONNX's backend interface: as ONNX's tools use it, and in what it refuses."""

import unittest
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt, Runner

from systolith import onnx_backend
from systolith.errors import SystolithError, UnsupportedError
from systolith.onnx_backend import SystolithBackend, Unsupported, prepare, run_model, run_node
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter

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


def test_first_dimensions_that_are_open():
    """Each has the size that its array has, 0 too."""
    model = tanh("batch")
    model.graph.input.append(helper.make_tensor_value_info("u", TensorProto.FLOAT, ["k", 2]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["k", 2]))
    model.graph.node.append(helper.make_node("Neg", ["u"], ["z"]))
    prepared = prepare(model, config="tiny4")
    for batch, size in ((2, 3), (1, 0), (2, 1)):
        inputs = {"x": RNG.integers(-128, 128, (batch, 3, 4, 4)).astype(np.int8),
                  "u": RNG.normal(size=(size, 2)).astype(np.float32)}  # fmt: skip
        for found, wanted in zip(prepared.run(inputs), expected(model, inputs), strict=True):
            np.testing.assert_array_equal(found, wanted)


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


@pytest.mark.parametrize(("inputs", "message"), [
    (None, "Inputs must be arrays, in order or by name, not None"), (3, "must be arrays, in order or by name, not 3"),
    ("x", "must be arrays, in order or by name, not 'x'"), ([], r"Inputs must be 1 \(x\), not 0"),
    ({"x": np.zeros((2, 3, 4, 4), np.int8), "y": 0}, "Inputs must be 'x'; there is no 'y'"),
    ([[[1], [1, 2]]], "Inputs must be arrays: .*inhomogeneous"), ([object()], "Input 'x' must be int8, not object"),
    ([np.zeros((2, 3, 4), np.int8)], r"Input 'x' must have shape \(2, 3, 4, 4\), not \(2, 3, 4\)")])  # fmt: skip
def test_inputs_that_are_none(inputs, message):
    with pytest.raises(SystolithError, match=message):
        prepare(tanh(), config="tiny4").run(inputs)


def test_constants_among_the_inputs_are_of_their_types():
    model, inputs = qlinear_conv()
    prepared = prepare(model, config="tiny4")
    for wrong, message in [
        (inputs | {"w": np.zeros((4, 3, 3, 3), np.float32)}, "Input 'w' must be int8, not float32"),
        (inputs | {"v": np.zeros(1)}, "Inputs must be .*; there is no 'v'"),
        ({name: inputs[name] for name in inputs if name != "w"}, "Inputs must have .*; 'w' is missing"),
    ]:
        with pytest.raises(SystolithError, match=message):
            prepared.run(wrong)


@pytest.mark.parametrize(("changes", "message"), [
    ({"model": b"bytes"}, "Model must be an onnx.ModelProto, not bytes"),
    ({"model": onnx.ModelProto()}, "must be an ONNX model with at least one node"),
    ({"config": 4}, "Configuration must be a Config, a preset's name or a .toml file, not 4"),
    ({"backend": "fpga"}, "Backend must be one of golden, isa, rtl, cocotb, not 'fpga'")])  # fmt: skip
def test_what_cannot_be_prepared(changes, message):
    with pytest.raises(SystolithError, match=message):
        prepare(**{"model": tanh(), "config": "tiny4"} | changes)


def test_a_node_of_another_domain():
    """ONNX does not know it; ONNX Runtime tells its types. One input is there twice."""
    x = RNG.integers(-128, 128, (1, 4, 3, 3)).astype(np.int8)
    node = helper.make_node("QLinearAdd", ["x", "s", "z", "x", "s", "z", "s", "z"], ["y"], domain="com.microsoft")
    inputs = [x, SCALE, ZERO, x, SCALE, ZERO, SCALE, ZERO]
    for options in ({}, {"outputs_info": [(np.int8, x.shape)], "opset_version": 17}):
        (y,) = run_node(node, inputs, config="tiny4", **options)
        np.testing.assert_array_equal(y, np.clip(2 * x.astype(int) - 3, -128, 127))


def test_inputs_that_a_node_leaves_out():
    x, sizes = RNG.integers(0, 255, (1, 4, 3, 3)).astype(np.uint8), np.array([1, 1, 2, 2], np.float32)
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    node = helper.make_node("Resize", ["x", "", "sizes"], ["y"], **nearest)
    for inputs in ([x, sizes], [x, None, sizes], {"x": x, "sizes": sizes}):
        (y,) = run_node(node, inputs, config="tiny4")
        np.testing.assert_array_equal(y, x.repeat(2, 2).repeat(2, 3))


@pytest.mark.parametrize(("node", "options", "message"), [
    (helper.make_node("MaxPool", ["x"], ["y"], speed=1), {}, "Node 'MaxPool' is not valid ONNX: .*speed"),
    (helper.make_node("Foo", ["x"], ["y"]), {}, "Node 'Foo' is not valid ONNX: No Op registered for Foo"),
    (helper.make_node("Foo", ["x"], ["y"], domain="a.b"), {}, "Foo 'y': outputs_info must be given where types cannot"),
    (helper.make_node("Tanh", ["x", "x2"], ["y"]), {}, "Node 'Tanh' is not valid ONNX"),
    (helper.make_node("Add", ["x", "x2"], ["y"]), {}, r"Inputs must be 2 \(x, x2\), not 1"),
    (helper.make_node("Flatten", ["x"], ["y"]), {"opset_version": 3}, "Opset version must be from 10 to "),
    (helper.make_node("Flatten", ["x"], ["y"]), {"opset_version": "new"}, "Opset version must be from 10 to "),
    (helper.make_node("Flatten", ["x"], ["y"]), {"outputs_info": [3]}, "outputs_info must have a type and a shape"),
    (helper.make_node("Flatten", ["x"], ["y"]), {"outputs_info": [("M8", (1,))]}, "must be of a type that ONNX has"),
])  # fmt: skip
def test_bad_nodes(node, options, message):
    with pytest.raises(SystolithError, match=message):
        run_node(node, [np.zeros((1, 4, 3, 3), np.int8)], config="tiny4", **options)


@pytest.mark.slow
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
