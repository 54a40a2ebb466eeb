"""`systolith quantize`: what it makes compiles and is close to the float model; wrong calibration is one clear line."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from systolith import PRESETS, SystolithError
from systolith.cli import app
from systolith.compiler.network import compile_network
from systolith.compiler.quantize.fold_norms import fold_norms
from systolith.compiler.quantize.quantize import quantize_model
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run

SHAPE = (3, 8, 8)
CLASSES = 5


def network(batch: int | str = "batch", opset: int = 17, ir_version: int = 8, inputs_too: bool = False) -> bytes:
    """Conv, BatchNormalization, Relu, MaxPool, Flatten, Gemm: float32. `inputs_too`: weights are also inputs."""
    rng = np.random.default_rng(1)
    tensors = {
        "w": rng.normal(0, 0.3, (6, 3, 3, 3)), "b": rng.normal(0, 0.1, 6), "scale": rng.uniform(0.5, 1.5, 6),
        "shift": rng.normal(size=6), "mean": rng.normal(size=6), "var": rng.uniform(0.5, 1.5, 6),
        "m": rng.normal(0, 0.2, (6 * 16, CLASSES)), "c": rng.normal(size=CLASSES),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["1"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["1", "scale", "shift", "mean", "var"], ["2"], "norm"),
        helper.make_node("Relu", ["2"], ["3"], "relu"),
        helper.make_node("MaxPool", ["3"], ["4"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["4"], ["5"], "flatten"),
        helper.make_node("Gemm", ["5", "m", "c"], ["y"], "gemm"),
    ]
    stored = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in tensors.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *SHAPE])]
    if inputs_too:
        inputs += [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.dims) for t in stored]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    return model.SerializeToString()


def samples(count: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_quantized_is_close_and_compiles(activations, method):
    model = network()
    done = []
    quantized = quantize_model(model, {"x": samples(20)}, activations=activations, method=method,
                               advance=lambda *progress: done.append(progress))  # fmt: skip
    assert done == [(1, 3), (2, 3), (3, 3)]
    x = samples(6, seed=3)
    exact, found = (reference.run(m, {"x": x})["y"] for m in (model, quantized))
    assert np.abs(exact - found).max() < 0.1 * np.abs(exact).max()
    config = PRESETS["tiny4"]
    program = compile_network(quantized, config, batch=6, strict=True)
    outputs, _ = run(program, {"x": x}, config, "isa")
    assert check(program, {"x": x}, outputs).passed


def test_what_is_in_the_file():
    """QDQ, int8 weights with a scale for each channel and zero point 0, no BatchNormalization, no domain of others."""
    model = onnx.load_from_string(quantize_model(network(), {"x": samples(4)}))
    onnx.checker.check_model(model, full_check=True)
    assert [opset.domain for opset in model.opset_import] == [""]
    assert {node.op_type for node in model.graph.node} == {
        "QuantizeLinear", "DequantizeLinear", "Conv", "MaxPool", "Flatten", "Gemm",
    }  # fmt: skip
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = {name: values for name, values in stored.items() if name.endswith("_quantized") and values.ndim > 1}
    assert {values.dtype for values in weights.values()} == {np.dtype(np.int8)}
    assert {stored[name.removesuffix("_quantized") + "_scale"].shape for name in weights} == {(6,), (CLASSES,)}
    assert not any(stored[name.removesuffix("_quantized") + "_zero_point"].any() for name in weights)
    one = onnx.load_from_string(quantize_model(network(), {"x": samples(4)}, per_channel=False))
    assert all(not t.dims or list(t.dims) == [1] for t in one.graph.initializer if t.name.endswith("_scale"))


def test_a_fixed_batch_that_samples_do_not_fill():
    """7 samples in batches of 4: the ranges are those of all 7, and of nothing else."""
    x = samples(7)
    x[6] *= 10
    fixed, free = (quantize_model(network(batch), {"x": x}) for batch in (4, "batch"))
    scales = [
        {t.name: numpy_helper.to_array(t).tolist() for t in onnx.load_from_string(m).graph.initializer
         if t.name.endswith("scale")} for m in (fixed, free)
    ]  # fmt: skip
    assert scales[0] == scales[1]


def test_old_files():
    """Opsets without scales for each channel are converted; weights that are inputs as well are weights."""
    expected = quantize_model(network(opset=13), {"x": samples(3)})
    found = quantize_model(network(opset=9, ir_version=3, inputs_too=True), {"x": samples(3)})
    x = {"x": samples(3, seed=4)}
    assert np.array_equal(reference.run(expected, x)["y"], reference.run(found, x)["y"])


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.5}])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_batch_normalization_behind_gemm(attributes, bias, shared):
    """It folds where nothing else reads the Gemm's result, and computes the same either way."""
    rng = np.random.default_rng(3)
    w = rng.normal(size=(7, 5) if "transB" in attributes else (5, 7))
    tensors = {"w": w, "b": rng.normal(size=7), **{name: rng.uniform(0.5, 2, 7) for name in "smtv"}}
    nodes = [
        helper.make_node("Gemm", ["x", "w", *["b"] * bias], ["1"], "gemm", **attributes),
        helper.make_node("BatchNormalization", ["1", "s", "m", "t", "v"], ["y"], "norm", epsilon=0.01),
    ]
    ports = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in
             (("x", 5), ("y", 7), ("1", 7))}  # fmt: skip
    outputs = [ports["y"], ports["1"]] if shared else [ports["y"]]
    stored = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in tensors.items()]
    graph = helper.make_graph(nodes, "net", [ports["x"]], outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = {"x": rng.normal(size=(6, 5)).astype(np.float32)}
    expected = reference.run(model.SerializeToString(), x)["y"]
    folded = fold_norms(model)
    assert len(folded.graph.node) == (2 if shared or "alpha" in attributes else 1)
    assert np.allclose(reference.run(folded.SerializeToString(), x)["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "must have an array for each input ('x'); 'x' is missing"),
        ({"x": samples(2), "z": samples(2)}, "for the inputs ('x') only; there is no input 'z'"),
        (
            {"x": samples(2)[:, :2]},
            "'x' must have shape (samples, 3, 8, 8), or (samples, batch, 3, 8, 8), not (2, 2, 8, 8)",
        ),
        ({"x": samples(2)[0]}, "must have shape (samples, 3, 8, 8), or (samples, batch, 3, 8, 8), not (3, 8, 8)"),
        ({"x": samples(2).astype(np.float64)}, "input 'x' must be float32, not float64"),
        ({"x": samples(0)}, "must have at least one sample"),
        ({"x": np.full((2, *SHAPE), np.nan, np.float32)}, "must be finite numbers; it has NaN or infinity"),
        ({"x": np.full((2, *SHAPE), -np.inf, np.float32)}, "must be finite numbers; it has NaN or infinity"),
    ],
)
def test_wrong_calibration(arrays, message):
    with pytest.raises(SystolithError) as error:
        quantize_model(network(), arrays)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_models_and_settings():
    quantized = quantize_model(network(), {"x": samples(2)})
    cases = [
        (quantized, {}, "must be a float model"),
        (b"nothing", {}, "must be an ONNX model"),
        (network(), {"activations": "int4"}, "Activations must be int8 or uint8, not 'int4'"),
        (network(), {"method": "magic"}, "Calibration method must be minmax or entropy or percentile, not 'magic'"),
        (network(opset=6), {}, "opset must be from 7 to"),
    ]
    for model, settings, message in cases:
        with pytest.raises(SystolithError) as error:
            quantize_model(model, {"x": samples(2)}, **settings)
        assert message in str(error.value)


def test_a_batch_that_is_open_by_a_number():
    """As paddle2onnx writes it."""
    x = {"x": samples(3, seed=3)}
    expected, found = (quantize_model(network(b), {"x": samples(5)}) for b in ("batch", -1))
    assert np.array_equal(*(reference.run(model, x)["y"] for model in (expected, found)))


@pytest.mark.parametrize("each", [False, True])
def test_an_input_without_elements(each):
    """0 is a size, and no batch; the layers that have elements are quantized."""

    def change(model):
        model.graph.input.append(helper.make_tensor_value_info("e", TensorProto.FLOAT, [0, 4]))
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [0, 4]))
        model.graph.node.append(helper.make_node("Relu", ["e"], ["z"], "empty"))

    empty = np.zeros((0, 4), np.float32)
    quantized = quantize_model(changed(change), {"x": samples(3), "e": np.stack([empty] * 3) if each else empty})
    expected = quantize_model(network(), {"x": samples(3)})
    found = reference.run(quantized, {"x": samples(3), "e": empty})
    assert found["z"].shape == (0, 4)
    assert np.array_equal(found["y"], reference.run(expected, {"x": samples(3)})["y"])


def changed(change) -> bytes:
    model = onnx.load_from_string(network())
    change(model)
    return model.SerializeToString()


def test_an_output_that_is_an_input():
    model = changed(lambda m: m.graph.output.insert(0, m.graph.input[0]))
    x = {"x": samples(3)}
    assert np.array_equal(reference.run(quantize_model(model, x), x)["x"], x["x"])


def test_names_of_nodes_may_be_the_same():
    model = changed(lambda m: [setattr(node, "name", "same") for node in m.graph.node])
    assert reference.run(quantize_model(model, {"x": samples(3)}), {"x": samples(3)})["y"].shape == (3, CLASSES)


def test_half_precision():
    """Its folded normalization too."""
    model = onnx.load_from_string(network())
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    x = samples(4).astype(np.float16)
    exact, found = (reference.run(m, {"x": x})["y"] for m in
                    (model.SerializeToString(), quantize_model(model.SerializeToString(), {"x": x})))  # fmt: skip
    assert found.dtype == np.float16 and np.abs(exact - found).max() < 0.1 * np.abs(exact).max()


def small(op: str, kind: int = TensorProto.FLOAT, **attributes) -> bytes:
    """A node of x (n, 6) and stored w (6, 6)."""
    w = np.ones((6, 6), helper.tensor_dtype_to_np_dtype(kind))
    x, y = (helper.make_tensor_value_info(name, kind, ["n", 6]) for name in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x", "w"], ["y"], "node", **attributes)], "net", [x], [y],
                              [numpy_helper.from_array(w, "w")])  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (small("MatMul", TensorProto.DOUBLE), np.ones((2, 6)),
         "must be a float32 model; MatMul 'node' has weights of float64"),
        (small("Einsum", equation="ni,ij->nj"), np.ones((2, 6), np.float32),
         "must have float32 operators that ONNX Runtime's quantizer takes, as Conv or MatMul; found Einsum"),
        (small("MatMul"), np.full((2, 6), 3e38, np.float32), "must have a range that float32 can hold in calibration"),
        (small("Gather"), np.ones((2, 6), np.float32), "ONNX Runtime refuses the model: "),
        (small("Reshape"), np.ones((2, 6), np.float32), "ONNX Runtime refuses the model: "),
    ],
)  # fmt: skip
def test_models_that_cannot_be_quantized(model, x, message):
    with pytest.raises(SystolithError) as error:
        quantize_model(model, {"x": x}, where="net")
    assert message in str(error.value) and str(error.value).startswith("net: ") and "\n" not in str(error.value)


def test_samples_that_the_model_does_not_take():
    """An index past the end is the samples' fault, not the quantizer's."""
    model = helper.make_model(helper.make_graph(
        [helper.make_node("Gather", ["w", "x"], ["g"]), helper.make_node("MatMul", ["g", "w"], ["y"])], "net",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(np.ones((6, 6), np.float32), "w")],
    ), opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()  # fmt: skip
    assert quantize_model(model, {"x": np.arange(6)})
    with pytest.raises(SystolithError, match=r"cannot run it on the first samples: .*Gather.* idx=6"):
        quantize_model(model, {"x": np.arange(7)})


# The command line.


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(network())
    x = samples(10)
    labels = reference.run(network(), {"x": x})["y"].argmax(axis=1)
    np.savez(tmp_path / "cal.npz", x=x)
    np.savez(tmp_path / "both.npz", x=x, labels=labels)
    np.save(tmp_path / "labels.npy", labels)
    np.savez(tmp_path / "test.npz", x=x[:3], labels=(labels[:3] + 1) % CLASSES)
    return tmp_path


@pytest.fixture
def quantize(monkeypatch, capfd, files):
    def call(*arguments) -> tuple[int, str, str]:
        output = files / "int8.onnx"
        monkeypatch.setattr(
            sys, "argv", ["systolith", "quantize", str(files / "net.onnx"), "-o", str(output), *arguments]
        )
        with pytest.raises(SystemExit) as end:
            app.main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    return call


def test_command(quantize, files):
    code, out, err = quantize("--calibration", str(files / "cal.npz"))
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert "calibrated with 10 samples" in out
    assert compile_network(files / "int8.onnx", PRESETS["tiny4"])


@pytest.mark.parametrize("how", [["both.npz"], ["cal.npz", "--labels", "labels.npy"]])
def test_accuracy(quantize, files, how):
    code, out, err = quantize("--calibration", *[name if name[0] == "-" else str(files / name) for name in how])
    assert (code, err) == (0, "")
    assert "top-1 accuracy, float: 100.00 % (10 of 10)" in out
    assert "top-1 accuracy, int8: " in out


def test_accuracy_on_samples_of_their_own(quantize, files):
    code, out, _ = quantize("--calibration", str(files / "both.npz"), "--labels", str(files / "test.npz"))
    assert code == 0
    assert "float: 0.00 % (0 of 3)" in out


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(9, np.int64), "Labels must be integers, one for each of 10 samples, not int64 (9,)"),
        (np.zeros(10), "not float64 (10,)"),
        (np.full(10, -1), "Labels must be class numbers from 0 on, not -1"),
        (np.full(10, CLASSES), "Labels must be below the 5 classes of 'y', not 5"),
    ],
)
def test_wrong_labels(quantize, files, labels, message):
    np.save(files / "labels.npy", labels)
    (files / "int8.onnx").write_bytes(b"before")
    code, _, err = quantize("--calibration", str(files / "cal.npz"), "--labels", str(files / "labels.npy"))
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert (files / "int8.onnx").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibration", "nothing.npz"], "nothing.npz: cannot be read"),
        (["--calibration", "net.onnx"], "net.onnx: must be a .npy or .npz file of numbers"),
        (["--calibration", "labels.npy"], "labels.npy: Calibration of input 'x' must be float32, not int64"),
        (["--calibration", "cal.npz", "--labels", "cal.npz"], "cal.npz: must have an array 'labels', not 'x'"),
        (["--calibration", "cal.npz", "--activations", "int16"], "Activations must be int8 or uint8, not 'int16'"),
    ],
)
def test_wrong_files(quantize, files, arguments, message):
    places = [str(files / item) if "." in item else item for item in arguments]
    code, _, err = quantize(*places)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (files / "int8.onnx").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(value):
    model = onnx.load_model_from_string(network())
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "m")
    weights.CopyFrom(numpy_helper.from_array(np.full(weights.dims, value, np.float32), "m"))
    with pytest.raises(
        SystolithError, match=r"^net: ONNX Runtime cannot quantize it: .*; initializer 'm' has NaN or inf"
    ):
        quantize_model(model.SerializeToString(), {"x": samples(3)}, where="net")


@pytest.mark.parametrize("source", ["net.onnx", None, onnx.ModelProto(), bytearray(b"abc")])
def test_a_model_is_a_path_or_bytes(source):
    message = r"^model: must be a pathlib\.Path or the bytes of an ONNX model, not "
    for use in (lambda: quantize_model(source, {"x": samples(3)}), lambda: compile_network(source, PRESETS["tiny4"])):
        with pytest.raises(SystolithError, match=message):
            use()


def test_a_model_that_ends_onnxruntime_is_refused():
    """SequenceAt with an empty position crashes it: in a process of its own."""
    nodes = [helper.make_node("SequenceConstruct", ["x", "x"], ["both"]),
             helper.make_node("SequenceAt", ["both", "place"], ["z"]),
             helper.make_node("Relu", ["z"], ["y"])]  # fmt: skip
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    place = helper.make_tensor("place", TensorProto.INT64, [0], [])
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [place])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(SystolithError, match=r"ONNX Runtime .*(its process ends with SIG|SequenceAt|[Ii]ndex|rank)"):
        quantize_model(model, {"x": np.ones((4, 2, 3), np.float32)})
