"""Random inputs: an index, a size or a count is one that the model can run with."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from systolith import PRESETS, SystolithError
from systolith.cli import app
from systolith.compiler.network import compile_network
from systolith.network import Network, Signature
from systolith.sim.compare.outputs import check
from systolith.sim.host.files import load_inputs
from systolith.sim.host.tensors import check_inputs
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus import inputs
from systolith.sim.stimulus.input_ranges import input_ranges
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.seeds import each_seed, many
from tests.support.split_models import CHANNELS, IMAGE, Net

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
DATA = X + 1
INTS = np.arange(24, dtype=np.int64).reshape(2, 3, 4) + 1


def given(*shape: int, dtype="int64") -> Signature:
    """An input, which is drawn."""
    return Signature("", shape, dtype)


def model(op: str, operands: list, count: int = 1, rank: int = 3, opset: int = 18, domain: str = "", kind: int = 0,
          **attributes):  # fmt: skip
    """One node; Signatures among its operands become inputs of the network, arrays initializers."""
    names = ["" if operand is None else f"i{i}" for i, operand in enumerate(operands)]
    ports, stored = {}, []
    for name, operand in zip(names, operands, strict=True):
        if isinstance(operand, Signature):
            ports[name] = Signature(name, operand.shape, operand.dtype)
        elif operand is not None:
            stored.append(numpy_helper.from_array(operand, name))
    outputs = [f"y{i}" for i in range(count)]
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, domain=domain, **attributes)], "net",
        [helper.make_tensor_value_info(p.name, helper.np_dtype_to_tensor_dtype(np.dtype(p.dtype)), p.shape)
         for p in ports.values()],
        [helper.make_tensor_value_info(y, kind, [None] * rank) if kind else helper.make_empty_tensor_value_info(y)
         for y in outputs], stored,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), tuple(ports.values())


def loop() -> onnx.GraphProto:
    """Of a Loop that doubles what it carries."""
    ports = [("i", TensorProto.INT64), ("c", TensorProto.BOOL), ("v", TensorProto.FLOAT)]
    return helper.make_graph(
        [helper.make_node("Identity", ["c"], ["on"]), helper.make_node("Add", ["v", "v"], ["sum"])], "body",
        [helper.make_tensor_value_info(name, kind, [2, 3, 4] if name == "v" else []) for name, kind in ports],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("sum", 1, [2, 3, 4])],
    )  # fmt: skip


WEIGHTS = np.ones((1, 16, 4), np.float32)
SEQUENCES = np.ones((5, 2, 4), np.float32)
CASES = {
    "Gather": ([DATA, given(7)], {"axis": 1}),
    "Gather of int32": ([DATA, given(7, 2, dtype="int32")], {"axis": -1}),
    "GatherElements": ([DATA, given(2, 1, 4)], {"axis": 1}),
    "GatherND": ([DATA, given(5, 2)], {}),
    "GatherND of a batch": ([DATA, given(2, 5, 1)], {"batch_dims": 1}),
    "ScatterElements": ([DATA, given(2, 1, 4), DATA[:, :1]], {"axis": 1}),
    "ScatterND": ([DATA, given(1, 2), DATA[0, :1]], {}),
    "ArrayFeatureExtractor": ([DATA, given(5)], {"domain": "ai.onnx.ml"}),
    "OneHot": ([given(5), np.array(3), np.array([0, 1])], {}),
    "OneHot depth": ([np.array([0, 1]), given(1), np.array([0, 1])], {}),
    "TopK": ([DATA, given(1)], {"count": 2, "axis": 1}),
    "Slice starts": ([DATA, given(2), np.array([2, 3]), np.array([0, 1])], {}),
    "Slice ends": ([DATA, np.array([1, 1]), given(2), np.array([0, 1])], {}),
    "Slice axes": ([DATA, np.array([0, 1]), np.array([1, 3]), given(2)], {}),
    "Slice steps": ([DATA, np.array([0]), np.array([2]), np.array([1]), given(1)], {}),
    "Range": ([given(), given(), given()], {}),
    "Reshape": ([DATA, given(4)], {}),
    "Expand": ([DATA, given(3)], {}),
    "ConstantOfShape": ([given(3)], {}),
    "Tile": ([DATA, given(3)], {}),
    "Pad": ([DATA, given(6)], {}),
    "Pad axes": ([DATA, np.array([1, 1, 1, 1]), None, given(2)], {}),
    "Resize sizes": ([DATA[None], None, None, given(4)], {"mode": "nearest"}),
    "Resize scales": ([DATA[None], None, given(4, dtype="float32")], {"mode": "nearest"}),
    "Split": ([DATA, given(2)], {"count": 2, "axis": 2}),
    "Squeeze": ([DATA[:1, :, :1], given(2)], {}),
    "Unsqueeze": ([DATA, given(2)], {}),
    "ReduceSum": ([DATA, given(2)], {}),
    "ReduceMean": ([DATA, given(1)], {}),
    "CumSum": ([DATA, given(dtype="int32")], {}),
    "Trilu": ([DATA, given()], {}),
    "Loop": ([given(), None, DATA], {"body": loop()}),
    "ReverseSequence": ([DATA, given(2)], {"time_axis": 1, "batch_axis": 0}),
    "LSTM": ([SEQUENCES, WEIGHTS, WEIGHTS, None, given(2, dtype="int32")], {"hidden_size": 4}),
    "RoiAlign": ([DATA[None], np.array([[0, 0, 2, 2], [0, 0, 1, 1]], np.float32), given(2)],
                 {"output_height": 2, "output_width": 2}),
    "NonMaxSuppression": ([np.array([[[0, 0, 1, 1], [0, 0, 2, 2]]], np.float32), np.ones((1, 1, 2), np.float32),
                           given(1)], {}),
    "Div": ([INTS, given(4)], {}),
    "Mod": ([INTS, given(4, dtype="int64")], {}),
    "BitShift": ([INTS.astype(np.uint64), given(4, dtype="uint64")], {"direction": "LEFT"}),
    "EmbedLayerNormalization": ([given(2, 3, dtype="int32"), given(2, 3, dtype="int32"), DATA[0, :, :4], DATA[0, :, :4],
                                 DATA[0, :2, :4], DATA[0, 0, :4], DATA[0, 0, :4]],
                                {"domain": "com.microsoft", "count": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operators_run_with_what_is_drawn(name):
    operands, attributes = CASES[name]
    made, ports = model(name.split()[0], operands, **attributes)
    if attributes.get("domain") == "ai.onnx.ml":
        made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    network = Network("net", (), ports, (), made.SerializeToString())
    drawn = {repr(values) for values in (_run(network, seed) for seed in range(12))}
    certain = input_ranges(made, {port.name: port.shape for port in ports}).values()
    assert len(drawn) > 1 or all(isinstance(values, list) or values[0] == values[1] for values in certain)


def _run(network: Network, seed: int) -> dict:
    arrays = random_inputs(network, seed)
    for port in network.inputs:
        assert (arrays[port.name].shape, arrays[port.name].dtype) == (port.shape, port.dtype)
    reference.run(network.model, arrays)
    return arrays


@pytest.mark.parametrize("name", ["Gather", "GatherND", "OneHot", "Loop", "Div"])
def test_others_would_not_do(name):
    """What the operators above are drawn is not what they would be drawn without knowing them."""
    operands, attributes = CASES[name]
    made, ports = model(name, operands, **attributes)
    found = input_ranges(made, {port.name: port.shape for port in ports})
    assert found and all(values != (0, inputs.NARROW - 1) for values in found.values())


def ranges_of(nodes: list, shape=(5,), kind: int = TensorProto.INT64, stored=()) -> dict:
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", kind, shape)], [], [
        numpy_helper.from_array(values, name) for name, values in [("data", DATA), *stored]])  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return input_ranges(made, {"x": shape})


def gather(x: str, axis: int, y: str = "y"):
    return helper.make_node("Gather", ["data", x], [y], axis=axis)


def test_inputs_are_followed():
    """Through what keeps values, and into graphs inside nodes; those of other types as well."""
    assert ranges_of([helper.make_node("Cast", ["x"], ["c"], to=TensorProto.INT64),
                      helper.make_node("Unsqueeze", ["c", "a"], ["u"]), gather("u", 1)], kind=TensorProto.UINT8,
                     stored=[("a", np.array([0]))]) == {"x": (0, 2)}  # fmt: skip
    branch = helper.make_graph([gather("x", 2, "z")], "then", [], [helper.make_tensor_value_info("z", 1, None)])
    assert ranges_of([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]) == {"x": (0, 3)}
    assert ranges_of([helper.make_node("Concat", ["x", "x"], ["two"], axis=0), gather("two", 0)]) == {"x": (0, 1)}


def test_all_readers_have_to_agree():
    assert ranges_of([gather("x", 2, "1"), gather("x", 0, "2"), gather("x", 1, "3")]) == {"x": (0, 1)}
    assert ranges_of([gather("x", 0, "1"), helper.make_node("ReduceSum", ["data", "x"], ["2"])], (1,)) == {"x": [0]}


def test_numbers_that_are_no_indices():
    assert ranges_of([helper.make_node("Add", ["x", "x"], ["y"])]) == {}
    assert ranges_of([helper.make_node("Div", ["data", "x"], ["y"])], (4,), TensorProto.FLOAT) == {}


# A network.


def indexed(add: int = 0) -> Net:
    """A Gather on the host behind a convolution; its index, to which something may be added, is an input."""
    net = Net()
    x = net.real(net.conv(net.image()))
    index = net.input("index", np.int64, [2])
    index = net.node("Add", [index, net.constant(np.int64(add))]) if add else index
    net.output(net.node("Gather", [x, index], axis=1), np.float32, [1, 2, *IMAGE[2:]])
    return net


def test_a_network_with_an_index():
    config = PRESETS["tiny4"]
    network = compile_network(indexed().model(), config)
    seen = set()
    for seed in each_seed(range(many(10))):
        drawn = random_inputs(network, seed)
        seen.update(drawn["index"].tolist())
        outputs, _ = run(network, drawn, config, "isa")
        assert check(network, drawn, outputs).passed
    assert seen == set(range(CHANNELS))


def test_what_the_host_refuses_is_named(tmp_path, monkeypatch, capsys):
    """An index that is computed from an input is not known to be one."""
    (tmp_path / "net.onnx").write_bytes(indexed(add=3).model())
    arguments = ["run", str(tmp_path / "net.onnx"), "-c", "tiny4", "--backend", "isa", "--seed", "3"]
    monkeypatch.setattr(sys, "argv", ["systolith", *arguments])
    with pytest.raises(SystemExit, match="2"):
        app.main()
    error = capsys.readouterr().err
    assert "Gather" in error and error.count("\n") == 1
    assert "; inputs are random, of seed 3, 'index' from " in error and error.endswith(": --input gives others\n")


@pytest.mark.parametrize("dtype", ["bool", "float16", "float64", "uint16", "uint32", "uint64", "int16", "int32"])
def test_inputs_of_any_type(dtype):
    """Beside the accelerator's."""
    net, config = Net(), PRESETS["tiny4"]
    net.floats(net.conv(net.image()), IMAGE)
    other = net.input("other", np.dtype(dtype), [3])
    net.output(net.node("Identity", [other]), np.dtype(dtype), [3])
    network = compile_network(net.model(), config)
    drawn = random_inputs(network, 1)
    assert drawn["other"].dtype == dtype and drawn["other"].shape == (3,)
    assert check(network, drawn, run(network, drawn, config, "isa")[0]).passed


def test_what_is_no_tensor_is_not_drawn():
    network = Network("net", (), (Signature("s", (), "seq(tensor(float))"),), (), Net().model())
    with pytest.raises(
        SystolithError, match=r"^Input 's' must be given: seq\(tensor\(float\)\) is not drawn at random"
    ):
        random_inputs(network, 1)


def test_strings_are_drawn():
    network = Network("net", (), (Signature("s", (2, 3), "str"),), (), Net().model())
    drawn = random_inputs(network, 1)["s"]
    assert drawn.shape == (2, 3) and drawn.dtype == object and all(isinstance(text, str) for text in drawn.flat)


def test_strings_are_drawn_read_and_run(tmp_path):
    """A network of which the host counts letters, with strings drawn, from a file, and in a file of no strings."""
    net = Net()
    net.floats(net.conv(net.image()), IMAGE)
    net.inputs.append(helper.make_tensor_value_info("text", TensorProto.STRING, [3]))
    net.output(net.node("Equal", ["text", net.constant(np.array(["a", "bc", "d"], object))]), np.bool_, [3])
    net.opset = 19
    network = compile_network(net.model(), PRESETS["tiny4"])
    drawn = random_inputs(network, 1)
    np.savez(tmp_path / "x.npz", x=drawn["x"], text=np.array(["a", "b", "d"]))
    for given in (drawn, load_inputs(tmp_path / "x.npz", network)):
        outputs, _ = run(network, given, PRESETS["tiny4"], "isa")
        assert check(network, given, outputs).passed
    assert outputs[net.outputs[-1].name].tolist() == [True, False, True]
    np.savez(tmp_path / "n.npz", x=drawn["x"], text=np.zeros(3))
    with pytest.raises(SystolithError, match=r"n\.npz: Input 'text' must be str, not float64"):
        load_inputs(tmp_path / "n.npz", network)


def test_sequences_are_lists():
    port = Signature("s", None, "seq(tensor(float))")
    check_inputs([port], {"s": [X, X]})
    with pytest.raises(SystolithError, match=r"^Input 's' must be seq\(tensor\(float\)\), a list of arrays$"):
        check_inputs([port], {"s": X})
