"""What tools leave in ONNX files: stale shapes, sparse constants, names of any kind, inputs that are left out."""

import time

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from systolith import PRESETS, SystolithError
from systolith.cli.run import load_network
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.network import compile_network
from systolith.network import Network, save
from systolith.program import Program
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.split_models import IMAGE, SIZE, Net

TINY = PRESETS["tiny4"]


def is_right(source: bytes, exact: bool = False) -> None:
    """The network computes on isa what the model does under ONNX Runtime."""
    network = compile_network(source, TINY)
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed
    for name, values in reference.run(source, inputs, "all" if exact else "none").items():
        assert outputs[name].shape == values.shape
        assert np.allclose(outputs[name], values, atol=0 if exact else 0.051)


def convolutions() -> Net:
    net = Net()
    net.floats(net.conv(net.conv(net.image())), IMAGE)
    return net


def test_shapes_that_are_out_of_date():
    proto = ModelProto.FromString(convolutions().model())
    for node in proto.graph.node:
        proto.graph.value_info.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1, 9, 9, 7]))
    proto.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 11
    network = compile_network(proto.SerializeToString(), TINY)
    assert network.outputs[0].shape == tuple(IMAGE)


@pytest.mark.parametrize("host", [False, True])
def test_outputs_without_a_shape(host):
    net = Net()
    x = net.real(net.conv(net.image()))
    y = net.node("Softmax", [x], axis=1) if host else x
    net.outputs.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, None))
    is_right(net.model())


@pytest.mark.parametrize("columns", [False, True])
def test_sparse_constants(columns):
    """Sparse weights, with the places of their values as numbers or as rows of coordinates."""
    net = convolutions()
    proto = ModelProto.FromString(net.model())
    dense = next(tensor for tensor in proto.graph.initializer if "weights" in tensor.name)
    values = numpy_helper.to_array(dense).copy()
    values[np.abs(values) < 90] = 0
    dense.CopyFrom(numpy_helper.from_array(values, dense.name))
    expected = proto.SerializeToString()
    places = np.argwhere(values) if columns else np.flatnonzero(values)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(values[values != 0], dense.name),
        numpy_helper.from_array(places.astype(np.int64), "places"), values.shape,
    )  # fmt: skip
    proto.graph.initializer.remove(dense)
    proto.graph.sparse_initializer.append(sparse)
    found = read_model(proto.SerializeToString())
    assert not found.graph.sparse_initializer
    networks = [compile_network(source, TINY) for source in (expected, proto.SerializeToString())]
    inputs = random_inputs(networks[0], 1)
    mine, theirs = (next(iter(run(network, inputs, TINY, "isa")[0].values())) for network in networks)
    assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(("dims", "place", "message"), [
    ((4, 4, 3, 3), 144, "sparse constant 'w' cannot be read|not valid ONNX"),
    ((1 << 20, 1 << 20), 3, "must have fewer than 268435456 elements"),
])  # fmt: skip
def test_sparse_constants_that_do_not_fit(dims, place, message):
    proto = ModelProto.FromString(convolutions().model())
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([3], np.int8), "w"),
        numpy_helper.from_array(np.array([place], np.int64), "places"), dims,
    )  # fmt: skip
    proto.graph.sparse_initializer.append(sparse)
    with pytest.raises(SystolithError, match=message):
        read_model(proto.SerializeToString())


SUFFIXES = (":0", ":0:0", ":channels", ":quantized", ".rows", ".ordered", ".part", ":output")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_that_the_compiler_makes_too(suffix):
    """Every tensor has a neighbour whose name is its own and `suffix`, outputs and what a branch reads among them."""
    net = Net()
    x = net.image()
    y = net.node("Resize", [net.real(net.conv(x)), "", net.constant(np.array([1, 1, 2, 2], np.float32))])
    y = net.small(y)
    z = net.small(net.node("MaxPool", [net.real(y)], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0]))
    net.output(net.real(net.conv(y)), np.float32, [1, 4, 12, 12])
    net.output(net.real(net.add(net.conv(z), x)), np.float32, IMAGE)
    made = [node.output[0] for node in net.nodes]
    for i, name in enumerate(made[::2]):  # Every second is called after the one before it.
        other = f"{made[2 * i - 1] if i else 'x'}{suffix}"
        for node in net.nodes:
            node.input[:] = [other if n == name else n for n in node.input]
            node.output[:] = [other if n == name else n for n in node.output]
        for port in net.outputs:
            port.name = other if port.name == name else port.name
    is_right(net.model(), exact=True)


def test_new_names_are_new():
    """A renamed tensor would be called as a constant is."""
    net = Net()
    x = net.conv(net.image())
    net.nodes.append(helper.make_node("Relu", [net.real(x)], [f"{x}:0"], "relu"))
    net.initializers += [numpy_helper.from_array(np.float32(2), f"{x}:0{end}") for end in ("~", "~~", "'")]
    y = f"{x}:0"
    for tensor in net.initializers[-3:]:
        y = net.node("Mul", [y, tensor.name])
    net.floats(net.conv(net.small(y)), IMAGE)
    is_right(net.model())


def test_long_names_of_marks():
    """Each is looked up as often as there are lengths of names, not marks."""
    net = Net()
    net.output(net.node("Softmax", [net.real(net.conv(net.image()))], axis=1), np.float32, None)
    model = ModelProto.FromString(net.model())
    names = {name: f"{':' * 100_000}{i}" for i, node in enumerate(model.graph.node) for name in node.output}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    model.graph.output[0].name = names[model.graph.output[0].name]
    begin = time.process_time()
    assert isinstance(compile_network(model.SerializeToString(), TINY), Network)
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("stem", ["input_0", "input_1", "_input_0"])
def test_names_of_constants(stem):
    """What a constant is made from has a name of its own, whatever the constant is called."""
    net = Net()
    x = net.conv(net.image())
    sizes = [net.constant(np.array(values, np.int64)) for values in ([1], [4, -1])]
    net.nodes.append(helper.make_node("Concat", sizes, [stem], "sizes", axis=0))
    net.floats(net.small(net.node("Relu", [net.node("Reshape", [net.real(x), stem])])), [1, 4, 36])
    network = compile_network(net.model(), TINY)
    assert isinstance(network, Program)
    is_right(net.model())


def test_names_inside_branches():
    """A tensor that only a branch reads is renamed there, too."""
    net = Net()
    x = net.real(net.conv(net.image()))
    net.nodes.append(helper.make_node("Softmax", [x], [f"{x}:0"], "soft", axis=1))
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "b")]
    then = helper.make_graph([helper.make_node("Relu", [f"{x}:0"], ["a"])], "then", [], port[:1])
    other = helper.make_graph([helper.make_node("Neg", [f"{x}:0"], ["b"])], "else", [], port[1:])
    yes = net.node("Greater", [net.node("ReduceSum", [x], keepdims=0), net.constant(np.float32(0))])
    net.output(net.node("If", [yes], then_branch=then, else_branch=other), np.float32, IMAGE)
    is_right(net.model())


@pytest.mark.parametrize(("op", "position", "refused"), [
    ("Max", 1, True), ("Sum", 1, True), ("Concat", 1, True), ("Add", 1, True), ("Clip", 1, False), ("Relu", 0, True),
])  # fmt: skip
def test_inputs_that_are_left_out(op, position, refused):
    net = Net()
    x = net.real(net.conv(net.image()))
    inputs = [x, x, net.constant(np.float32(1))][: 3 if op == "Clip" else position + 1]
    inputs[position] = ""
    y = net.node(op, inputs, **({"axis": 1} if op == "Concat" else {}))
    net.outputs.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, None))
    if refused:
        with pytest.raises(SystolithError, match=rf"^model: {op} '.*': input {position} must be there; its name is"):
            read_model(net.model())
    else:
        read_model(net.model())


def test_inputs_that_are_left_out_in_a_branch():
    net = Net()
    x = net.real(net.conv(net.image()))
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "b")]
    then = helper.make_graph([helper.make_node("Max", [x, ""], ["a"])], "then", [], port[:1])
    other = helper.make_graph([helper.make_node("Neg", [x], ["b"])], "else", [], port[1:])
    yes = net.constant(np.array(True))
    net.output(net.node("If", [yes], then_branch=then, else_branch=other), np.float32, IMAGE)
    with pytest.raises(SystolithError, match=r"^model: Max 'a': input 1 must be there"):
        compile_network(net.model(), TINY)


def test_an_output_that_is_named_twice():
    net = convolutions()
    net.outputs.append(net.outputs[0])
    network = compile_network(net.model(), TINY)
    assert len(network.outputs) == 1
    net.outputs[1:] = [_again(net.outputs[0], "quantizelinear_4_out")] * 2
    assert len(compile_network(net.model(), TINY).outputs) == 2


def _again(port: ValueInfoProto, name: str) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(port)
    copy.name, copy.type.tensor_type.elem_type = name, TensorProto.INT8
    return copy


def test_outputs_that_no_node_makes(tmp_path):
    """Inputs and initializers; a file of such a network is read again."""
    net = convolutions()
    net.output("x", np.float32, IMAGE)
    net.output(net.initializers[0].name, np.float32, None)
    model = net.model()
    save(compile_network(model, TINY), tmp_path / "net.slp")
    network = load_network(tmp_path / "net.slp", TINY, 1)
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed
    assert np.array_equal(outputs["x"], inputs["x"])
    assert np.array_equal(outputs[net.initializers[0].name], numpy_helper.to_array(net.initializers[0]))


def test_nodes_that_share_a_name():
    net = Net()
    net.output(net.node("Softmax", [net.real(net.conv(net.image()))], axis=1), np.float32, IMAGE)
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "b")]
    twice = [helper.make_node("Relu", [net.outputs[0].name], ["c"]), helper.make_node("Neg", ["c"], ["a"])]
    then = helper.make_graph(twice, "then", [], port[:1])
    other = helper.make_graph([helper.make_node("Neg", [net.outputs[0].name], ["b"])], "else", [], port[1:])
    yes = net.node("Greater", [net.node("ReduceSum", [net.outputs[0].name], keepdims=0), net.constant(np.float32(0))])
    net.output(net.node("If", [yes], then_branch=then, else_branch=other), np.float32, None)
    for node in [*net.nodes, *net.nodes[-1].attribute[0].g.node, *net.nodes[-1].attribute[1].g.node]:
        node.name = "node"
    network = compile_network(net.model(), TINY)
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed


def test_an_opset_of_no_version():
    """Of another domain, in a version that no integer of 32 bits holds: ONNX knows none of its operators."""
    proto = ModelProto.FromString(convolutions().model())
    proto.opset_import[1].version = 1 << 40
    proto.graph.node.append(
        helper.make_node("QuickGelu", [proto.graph.node[-1].output[0], ""], ["z"], domain="com.microsoft")
    )
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, IMAGE))
    with pytest.raises(SystolithError):
        compile_network(proto.SerializeToString(), TINY)


def test_names_that_are_no_text(tmp_path):
    """A name of any kind that is not UTF-8: protobuf takes it."""
    net = Net()
    net.floats(net.conv(net.image()), IMAGE)
    source = net.model()
    names = {name for node in ModelProto.FromString(source).graph.node for name in (*node.input, *node.output)}
    for name in sorted(names):
        damaged = source.replace(name.encode(), b"\xee" + name.encode()[1:])
        with pytest.raises(SystolithError, match=r"^net.onnx: \w+ must be text in UTF-8, not b'\\xee"):
            read_model(damaged, "net.onnx")
    for attribute in ("pads", "Conv"):
        with pytest.raises(SystolithError, match=r"^net.onnx: \w+ must be text in UTF-8, not b'\\xee"):
            read_model(source.replace(attribute.encode(), b"\xee" + attribute.encode()[1:]), "net.onnx")


def test_sparse_constants_of_a_branch():
    net = Net()
    x = net.real(net.conv(net.image()))
    values = numpy_helper.from_array(np.array([5, -3], np.float32), "sparse")
    constant = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 3], np.int64), "at"), [SIZE])
    port = helper.make_tensor_value_info("sum", TensorProto.FLOAT, IMAGE)
    branch = helper.make_graph([helper.make_node("Add", [x, "sparse"], ["sum"])], "yes", [], [port])
    branch.sparse_initializer.append(constant)
    other = helper.make_graph([helper.make_node("Neg", [x], ["sum"])], "no", [], [port])
    condition = net.node("Greater", [net.node("ReduceMax", [x], keepdims=0), net.constant(np.float32(0))])
    net.floats(net.small(net.node("If", [condition], then_branch=branch, else_branch=other)), IMAGE)
    is_right(net.model())


def test_two_names_of_one_domain_and_a_graph_without_one():
    """What ONNX's checker refuses, and ONNX Runtime runs."""
    net = Net()
    net.floats(net.conv(net.image()), IMAGE)
    model = ModelProto.FromString(net.model())
    model.graph.ClearField("name")
    for node in model.graph.node:
        node.domain = "ai.onnx"
    is_right(model.SerializeToString())
    model.opset_import[0].domain = "ai.onnx"
    is_right(model.SerializeToString())


@pytest.mark.parametrize("shape", [[6], [24], [4, 6, 6]])
def test_a_vector_of_weights_on_the_left(shape):
    net = Net()
    x = net.node("Reshape", [net.real(net.conv(net.image())), net.constant(np.array([*shape[:-1], -1], np.int64))])
    if len(shape) == 1:
        x = net.node("Reshape", [x, net.constant(np.array([shape[0], 144 // shape[0]], np.int64))])
    weights = net.constant(np.arange(shape[0] if len(shape) == 1 else shape[-2]).astype(np.int8))
    y = net.node("MatMul", [net.dequantize(weights, 0.03, np.int8(0)), x], "product")
    net.floats(net.small(y), None)
    source = net.model()
    compiled = compile_network(source, TINY)
    assert isinstance(compiled, Network)
    (reason,) = (node.reason for node in compiled.host_nodes if node.name == "product")
    assert reason.startswith("weights must be a matrix, not of shape")
    is_right(source)
