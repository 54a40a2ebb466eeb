"""Readers that ONNX Runtime's quantizer does not count (outputs, graphs inside nodes) see what they should see."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from systolith import PRESETS
from systolith.compiler.network import compile_network
from systolith.compiler.quantize.hidden_readers import show_readers
from systolith.compiler.quantize.quantize import quantize_model
from systolith.network import Network
from systolith.program import Program
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run

CONFIG = PRESETS["tiny4"]
RNG = np.random.default_rng(1)
STORED = {
    "w": RNG.normal(0, 0.3, (4, 4, 3, 3)), "square": RNG.normal(0, 0.5, (6, 6)), "low": np.array(-0.25),
    "high": np.array(0.75), "limit": np.array(0.0), "scale": np.ones(6), "shift": np.zeros(6),
}  # fmt: skip
CONV = helper.make_node("Conv", ["x", "w"], ["y"], "made", pads=[1, 1, 1, 1])
MATMUL = helper.make_node("MatMul", ["x", "square"], ["y"], "made")
GEMM = helper.make_node("Gemm", ["x", "square"], ["y"], "made")
MAKERS = {
    "conv": ([1, 4, 6, 6], [CONV]),
    "add": ([1, 4, 6, 6], [helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
                           helper.make_node("Add", ["c", "x"], ["y"], "made")]),
    "matmul": ([1, 6], [MATMUL]),
    "gemm": ([1, 6], [GEMM]),
    "pool": ([1, 4, 6, 6], [helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
                            helper.make_node("MaxPool", ["c"], ["y"], "made", kernel_shape=[2, 2])]),
}  # fmt: skip
RELU = helper.make_node("Relu", ["y"], ["z"], "clamp")
CLAMPS = {"relu": RELU, "clip": helper.make_node("Clip", ["y", "low", "high"], ["z"], "clamp")}


def model(shape: Sequence[int], nodes: Sequence[NodeProto], outputs: Sequence[str]) -> bytes:
    used = {name for node in nodes for name in node.input} | {"shift"}
    stored = [numpy_helper.from_array(STORED[name].astype(np.float32), name) for name in STORED if name in used]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def body(name: str, inputs: Sequence[onnx.ValueInfoProto], nodes: Sequence[NodeProto], outputs: dict) -> GraphProto:
    return helper.make_graph(nodes, name, inputs, [helper.make_tensor_value_info(n, k, None) for n, k in
                                                   outputs.items()])  # fmt: skip


def if_that_reads(name: str) -> list[NodeProto]:
    """s is minus `name` if the sum of x is positive, else `name`."""
    branches = {
        f"{way}_branch": body(way, [], [helper.make_node(op, [name], [f"{way}_s"])], {f"{way}_s": TensorProto.FLOAT})
        for way, op in (("then", "Neg"), ("else", "Identity"))
    }
    return [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "limit"], ["positive"]),
            helper.make_node("If", ["positive"], ["s"], "if", **branches)]  # fmt: skip


def loop_that_reads(name: str) -> list[NodeProto]:
    """s is the sum of three times `name`."""
    ports = [helper.make_tensor_value_info("turn", TensorProto.INT64, []),
             helper.make_tensor_value_info("go", TensorProto.BOOL, []),
             helper.make_tensor_value_info("so_far", TensorProto.FLOAT, None)]  # fmt: skip
    nodes = [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Add", ["so_far", name], ["more"])]
    count = numpy_helper.from_array(np.array(3), "count")
    inner = body("turn", ports, nodes, {"still": TensorProto.BOOL, "more": TensorProto.FLOAT})
    return [helper.make_node("Constant", [], ["count"], value=count),
            helper.make_node("Loop", ["count", "", "limit"], ["s"], "loop", body=inner)]  # fmt: skip


def quantized(float_model: bytes, shape: Sequence[int], activations: str) -> tuple[bytes, Program | Network]:
    """The quantized model, and what it compiles to; its outputs are near those of the float one, golden's and ONNX
    Runtime's the same."""
    samples = np.random.default_rng(2).normal(size=(8, *shape[1:])).astype(np.float32)
    found = quantize_model(float_model, {"x": samples}, activations=activations)
    network = compile_network(found, CONFIG)
    inputs = {"x": samples[:1]}
    outputs, _ = run(network, inputs, CONFIG, "isa")
    assert check(network, inputs, outputs).passed
    expected = reference.run(float_model, inputs)
    assert list(outputs) == list(expected)
    for name, values in expected.items():
        assert np.abs(outputs[name] - values).max() < 0.05 * np.abs(values).max()
    assert min(values.min() for values in expected.values()) < 0
    return found, network


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("maker", MAKERS)
def test_an_output_that_a_clamp_reads(maker, clamp, activations):
    """It is not clamped, and all of it stays on the accelerator."""
    shape, nodes = MAKERS[maker]
    _, network = quantized(model(shape, [*nodes, CLAMPS[clamp]], ["y", "z"]), shape, activations)
    assert isinstance(network, Program)


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("subgraph", [if_that_reads, loop_that_reads])
@pytest.mark.parametrize("output", [False, True])
def test_what_a_graph_inside_a_node_reads(subgraph, clamp, activations, output):
    """It is there, and it is not clamped; layer and clamp stay on the accelerator."""
    nodes = [CONV, CLAMPS[clamp], helper.make_node("Conv", ["z", "w"], ["t"], "last"), *subgraph("y")]
    _, network = quantized(model([1, 4, 6, 6], nodes, ["t", "s", *["y"] * output]), [1, 4, 6, 6], activations)
    assert isinstance(network, Network)
    assert not {"made", "clamp", "last"}.intersection(node.name for node in network.host_nodes)


@pytest.mark.parametrize("subgraph", [if_that_reads, loop_that_reads])
def test_a_product_that_a_graph_inside_a_node_reads(subgraph):
    """A batch normalization behind it does not take it away."""
    norm = helper.make_node("BatchNormalization", ["y", "scale", "shift", "shift", "scale"], ["z"], "norm")
    quantized(model([1, 6], [GEMM, norm, *subgraph("y")], ["z", "s"]), [1, 6], "int8")


def test_others_are_left_alone():
    """What has other readers as well, is no output, or is read by another operator; or the network's input."""
    cases = [
        ([CONV, RELU], ["z"]),
        ([CONV, RELU, helper.make_node("Neg", ["y"], ["t"])], ["y", "z", "t"]),
        ([CONV, helper.make_node("Neg", ["y"], ["t"])], ["y", "t"]),
        ([helper.make_node("Relu", ["x"], ["z"])], ["x", "z"]),
    ]
    for nodes, outputs in cases:
        found = onnx.load_from_string(model([1, 4, 6, 6], nodes, outputs))
        before = found.SerializeToString()
        assert show_readers(found).SerializeToString() == before


def test_a_name_that_is_taken():
    """That of the tensor before the Identity."""
    nodes = [CONV, RELU, helper.make_node("Neg", ["z"], ["y/result"])]
    found = show_readers(onnx.load_from_string(model([1, 4, 6, 6], nodes, ["y", "y/result"]))).graph
    assert [(node.op_type, *node.input, *node.output) for node in found.node] == [
        ("Conv", "x", "w", "y/result'"), ("Identity", "y/result'", "y"), ("Relu", "y/result'", "z"),
        ("Neg", "z", "y/result"),
    ]  # fmt: skip
