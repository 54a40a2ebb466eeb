"""Multiply-accumulates of what the host may run: each operator by its definition, and of graphs inside nodes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from systolith import PRESETS
from systolith.cli.compile import compile_file
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.partition.macs import Scope, macs
from systolith.console.tables import percent
from systolith.sim.stimulus.model_writer import ModelWriter

MS = "com.microsoft"


def port(name: str, shape, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def counted(op: str, inputs: list, output: list, domain: str = "", **attributes) -> int:
    """Of a node with inputs of these shapes (None: not there)."""
    names = ["" if shape is None else f"x{i}" for i, shape in enumerate(inputs)]
    node = helper.make_node(op, names, ["y"], domain=domain, **attributes)
    types = [port(name, shape) for name, shape in zip(names, inputs, strict=True) if name]
    return macs(node, Scope.of(onnx.ModelProto(), [*types, port("y", output)]))


SCALAR: list[int] = []
PRODUCT = 2 * 5 * 7 * 3


@pytest.mark.parametrize(
    ("op", "inputs", "output", "attributes", "expected"),
    [
        ("Conv", [[1, 4, 8, 8], [6, 2, 3, 3]], [1, 6, 8, 8], {"group": 2}, 6 * 64 * 2 * 9),
        ("ConvInteger", [[1, 4, 8], [6, 4, 3]], [1, 6, 6], {}, 36 * 12),
        ("QLinearConv", [[1, 4, 8, 8], SCALAR, SCALAR, [6, 4, 3, 3]], [1, 6, 6, 6], {}, 6 * 36 * 36),
        ("FusedConv", [[1, 4, 8, 8], [6, 4, 3, 3]], [1, 6, 6, 6], {"domain": MS}, 6 * 36 * 36),
        ("DeformConv", [[1, 4, 8, 8], [6, 4, 3, 3], [1, 18, 6, 6]], [1, 6, 6, 6], {}, 6 * 36 * 36),
        ("ConvTranspose", [[1, 4, 5, 5], [4, 3, 2, 2]], [1, 6, 10, 10], {"group": 2}, 4 * 25 * 3 * 4),
        ("MatMul", [[2, 5, 3], [3, 7]], [2, 5, 7], {}, PRODUCT),
        ("MatMul", [[3], [3]], [], {}, 3),
        ("MatMul", [[2, 5, None], [3, 7]], [2, 5, 7], {}, PRODUCT),
        ("MatMulInteger", [[2, 5, 3], [2, 3, 7]], [2, 5, 7], {}, PRODUCT),
        ("QLinearMatMul", [[2, 5, 3], SCALAR, SCALAR, [3, 7]], [2, 5, 7], {}, PRODUCT),
        ("DynamicQuantizeMatMul", [[2, 5, 3], [3, 7], [7]], [2, 5, 7], {"domain": MS}, PRODUCT),
        ("MatMulIntegerToFloat", [[2, 5, 3], [3, 7], SCALAR, SCALAR], [2, 5, 7], {"domain": MS}, PRODUCT),
        ("FusedMatMul", [[2, 3, 5], [2, 7, 3]], [2, 5, 7], {"domain": MS, "transA": 1, "transB": 1}, PRODUCT),
        ("FusedMatMul", [[3, 2, 5], [2, 3, 7]], [2, 5, 7], {"domain": MS, "transA": 1, "transBatchA": 1}, PRODUCT),
        ("MatMulNBits", [[2, 5, 3], [7, 1, 16], [7]], [2, 5, 7],
         {"domain": MS, "K": 3, "N": 7, "bits": 4, "block_size": 32}, PRODUCT),
        ("Gemm", [[10, 3], [3, 7], [7]], [10, 7], {}, PRODUCT),
        ("Gemm", [[3, 10], [7, 3]], [10, 7], {"transA": 1, "transB": 1}, PRODUCT),
        ("Gemm", [[0, 3], [3, 7]], [0, 7], {}, 0),
        ("QGemm", [[10, 3], SCALAR, SCALAR, [7, 3]], [10, 7], {"domain": MS, "transB": 1}, PRODUCT),
        ("FusedGemm", [[10, 3], [3, 7], [7]], [10, 7], {"domain": MS}, PRODUCT),
        ("LSTM", [[9, 2, 5], [1, 16, 5], [1, 16, 4]], [9, 1, 2, 4], {"hidden_size": 4}, 18 * 16 * 9),
        ("GRU", [[9, 2, 5], [2, 12, 5], [2, 12, 4]], [9, 2, 2, 4], {"direction": "bidirectional"}, 18 * 24 * 9),
        ("RNN", [[2, 9, 5], [1, 4, 5], [1, 4, 4]], [2, 9, 1, 4], {"layout": 1}, 18 * 4 * 9),
        ("DynamicQuantizeLSTM", [[9, 2, 5], [1, 5, 16], [1, 4, 16]], [9, 1, 2, 4], {"domain": MS}, 18 * 16 * 9),
        ("Einsum", [[2, 5, 3], [2, 3, 7]], [2, 5, 7], {"equation": "bij, bjk -> bik"}, PRODUCT),
        ("Einsum", [[5, 3], [3, 7]], [5, 7], {"equation": "ij,jk"}, 105),
        ("Einsum", [[2, 4, 5, 3], [4, 3, 7]], [2, 4, 5, 7], {"equation": "...ij,...jk->...ik"}, 4 * PRODUCT),
        ("Einsum", [[2, 3], [3, 5], [5, 7]], [2, 7], {"equation": "ab,bc,cd->ad"}, 30 + 70),
        ("Einsum", [[2, 3], [3, 5], [5, 7]], [2, 7], {"equation": "ab,bc,cd"}, 30 + 70),
        ("Einsum", [[5, 3]], [3, 5], {"equation": "ij->ji"}, 0),
        ("Attention", [[2, 4, 6, 8], [2, 2, 9, 8], [2, 2, 9, 5]], [2, 4, 6, 5], {}, 2 * 4 * 6 * 9 * 13),
        ("Attention", [[2, 6, 32], [2, 9, 16], [2, 9, 10]], [2, 6, 20], {"q_num_heads": 4, "kv_num_heads": 2},
         2 * 4 * 6 * 9 * 13),
        ("Attention", [[2, 4, 6, 8], [2, 4, 1, 8], [2, 4, 1, 8], None, [2, 4, 9, 8], [2, 4, 9, 8]], [2, 4, 6, 8], {},
         2 * 4 * 6 * 10 * 16),
        ("Attention", [[2, 6, 8], [8, 24], [24]], [2, 6, 8], {"domain": MS, "num_heads": 2}, 12 * (8 * 24 + 6 * 16)),
        ("Attention", [[2, 6, 8], [8, 20], [20], None, [2, 2, 2, 3, 4]], [2, 6, 4],
         {"domain": MS, "num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]}, 12 * (8 * 20 + 9 * 12)),
        ("QAttention", [[2, 6, 8], [8, 24], [24], SCALAR, SCALAR], [2, 6, 8], {"domain": MS, "num_heads": 2},
         12 * (8 * 24 + 6 * 16)),
        ("MultiHeadAttention", [[2, 6, 8], [2, 9, 8], [2, 9, 4]], [2, 6, 4], {"domain": MS, "num_heads": 2},
         12 * 9 * 12),
        ("MultiHeadAttention", [[2, 6, 2, 3, 4]], [2, 6, 8], {"domain": MS, "num_heads": 2}, 12 * 6 * 16),
        ("MultiHeadAttention", [[2, 6, 8], [2, 2, 9, 4], [2, 2, 9, 4]], [2, 6, 8], {"domain": MS, "num_heads": 2},
         12 * 9 * 16),
        ("GroupQueryAttention", [[2, 1, 8], [2, 1, 4], [2, 1, 4], [2, 1, 9, 4], [2, 1, 9, 4]], [2, 1, 8],
         {"domain": MS, "num_heads": 2, "kv_num_heads": 1}, 2 * 10 * 16),
        ("GridSample", [[1, 4, 8, 8], [1, 6, 6, 2]], [1, 4, 6, 6], {}, 0),
        ("Mul", [[4, 4], [4, 4]], [4, 4], {}, 0),
    ],
)  # fmt: skip
def test_operators(op, inputs, output, attributes, expected):
    assert counted(op, inputs, output, **attributes) == expected


def test_unknown_dimensions_count_once():
    assert counted("MatMul", [["n", 3], [3, 7]], ["n", 7]) == 21
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    stored = helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.zeros((6, 4, 3, 3), np.float32), "w")])
    assert macs(node, Scope.of(onnx.ModelProto(graph=stored), [])) == 4 * 9


# Graphs inside nodes.


def product(name: str, x: str = "x", width: int = 6) -> list[onnx.NodeProto]:
    """x (4, 5) times a matrix that the graph makes itself, (5, width): 20 * width."""
    shape = numpy_helper.from_array(np.array([5, width], np.int64))
    return [
        helper.make_node("Constant", [], [f"{name}_s"], value=shape),
        helper.make_node("ConstantOfShape", [f"{name}_s"], [f"{name}_w"]),
        helper.make_node("MatMul", [x, f"{name}_w"], [name]),
    ]


def branch(name: str, width: int) -> onnx.GraphProto:
    return helper.make_graph(product(name, width=width), name, [], [port(name, None)])


def total(nodes: list[onnx.NodeProto], types: list, stored: dict[str, np.ndarray] | None = None) -> int:
    tensors = [numpy_helper.from_array(values, name) for name, values in (stored or {}).items()]
    graph = helper.make_graph(nodes, "g", [], [], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    scope = Scope.of(model, types)
    return sum(macs(node, scope) for node in nodes)


X = port("x", [4, 5])


def test_the_larger_branch_counts():
    for sizes in ((6, 8), (8, 6)):
        then, other = (branch(name, size) for name, size in zip("ab", sizes, strict=True))
        node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
        assert total([node], [X, port("c", [], TensorProto.BOOL)]) == 4 * 5 * 8


def loop(trips: str) -> onnx.NodeProto:
    """Twice a product of what it carries, whose shape the body does not say; one of them inside an If."""
    inputs = [port("i", [], TensorProto.INT64), port("c", [], TensorProto.BOOL), port("v", None)]
    inner = helper.make_graph(product("p", "v", 3), "then", [], [port("p", None)])
    nodes = [
        helper.make_node("Identity", ["c"], ["on"]),
        *product("u", "v", 5),
        helper.make_node("If", ["c"], ["q"], then_branch=inner, else_branch=branch("r", 2)),
    ]
    outputs = [port("on", [], TensorProto.BOOL), port("u", None), port("q", None)]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    return helper.make_node("Loop", [trips, "", "x"], ["y", "all"], body=body)


@pytest.mark.parametrize(("trips", "times"), [(7, 7), (0, 0), (-1, 0), (2**63 - 1, 1), (None, 1)])
def test_loop(trips, times):
    stored = {} if trips is None else {"m": np.array(trips, np.int64)}
    given = [X, port("m", [], TensorProto.INT64)] if trips is None else [X]
    assert total([loop("m")], given, stored) == times * (4 * 5 * 5 + 4 * 5 * 3)


def test_a_constant_node_says_how_often():
    node = helper.make_node("Constant", [], ["m"], value=numpy_helper.from_array(np.array([3], np.int64)))
    assert total([node, loop("m")], [X]) == 3 * 4 * 5 * 8


def test_scan():
    """Along the last axis but one of a (2, 9, 5) tensor, a state of (2, 30): [2, 5] x [5, 30] + [2, 30] x [30, 30], and
    the sum squared. The weights are outside."""
    nodes = [
        helper.make_node("MatMul", ["s", "r"], ["1"]), helper.make_node("MatMul", ["e", "w"], ["2"]),
        helper.make_node("Add", ["1", "2"], ["next"]), helper.make_node("Transpose", ["2"], ["3"]),
        helper.make_node("MatMul", ["2", "3"], ["square"]),
    ]  # fmt: skip
    body = helper.make_graph(nodes, "step", [port("s", None), port("e", None)], [port("next", None)])
    node = helper.make_node("Scan", ["s0", "seq"], ["y"], body=body, num_scan_inputs=1, scan_input_axes=[1])
    stored = {"w": np.zeros((5, 30), np.float32), "r": np.zeros((30, 30), np.float32)}
    once = 2 * 5 * 30 + 2 * 30 * 30 + 2 * 30 * 2
    assert total([node], [port("s0", [2, 30]), port("seq", [2, 9, 5])], stored) == 9 * once


def test_local_functions():
    """They are inlined when a model is read, also inside the graphs of nodes."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Twice", ["x"], ["y"], [helper.make_node("MatMul", ["x", "x"], ["y"])],
                                    opsets[:1])  # fmt: skip
    call = [helper.make_node("Twice", ["x"], [name], domain="own") for name in ("a", "b")]
    branches = [helper.make_graph([node], node.output[0], [], [port(node.output[0], [4, 4])]) for node in call]
    nodes = [
        helper.make_node("Twice", ["x"], ["t"], domain="own"),
        helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    graph = helper.make_graph(nodes, "g", [port("x", [4, 4]), port("c", [], TensorProto.BOOL)], [port("y", [4, 4]),
                              port("t", [4, 4])])  # fmt: skip
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=9)
    read = read_model(model.SerializeToString())
    scope = Scope.of(read, [*graph.input, *graph.output])
    assert sum(macs(node, scope) for node in read.graph.node) == 2 * 4 * 4 * 4


# What `compile` says.


def lstm(size: int) -> ModelWriter:
    """A 4 x 8 matrix times 8 x 8 on the accelerator, then an LSTM of this size on the host."""
    rng, writer = np.random.default_rng(1), ModelWriter(17)
    x = writer.dequantize(writer.quantize(writer.input("x", np.float32, [4, 8]), 0.05, np.int8(0)), 0.05, np.int8(0))
    stored = writer.constant(rng.integers(-127, 128, (8, 8)).astype(np.int8))
    product = writer.node("MatMul", [x, writer.dequantize(stored, 0.01, np.int8(0))])
    y = writer.dequantize(writer.quantize(product, 0.05, np.int8(0)), 0.05, np.int8(0))
    steps = writer.node("Unsqueeze", [y, writer.constant(np.array([1], np.int64))])
    weights = [writer.constant(rng.normal(size=(1, 4 * size, n)).astype(np.float32)) for n in (8, size)]
    writer.output(writer.node("LSTM", [steps, *weights], hidden_size=size), np.float32, [4, 1, 1, size])
    return writer


def test_a_network_that_is_mostly_a_host_lstm(tmp_path, capsys):
    path = tmp_path / "lstm.onnx"
    path.write_bytes(lstm(128).model())
    compile_file(path, PRESETS["tiny4"], tmp_path / "lstm.slp", 1, None, False)
    host = 4 * 4 * 128 * (8 + 128)
    text = capsys.readouterr().out
    assert f"multiply-accumulates on the accelerator: 256 of {256 + host:,} (0.1 %)" in text


def test_100_percent_is_all_of_it():
    assert [percent(share) for share in (1, 0.99999, 0.9994, 0, None)] == ["100.0 %", "99.9 %", "99.9 %", "0.0 %", "-"]
