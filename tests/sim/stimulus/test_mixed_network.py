"""Random networks with host parts: what they are made of, and a few of them on the instruction simulator.

`make verify-host` runs as many as one likes.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto

from systolith.sim.campaign import UNCOMPARED, campaign
from systolith.sim.reference import unoptimized
from systolith.sim.stimulus.host_parts.counts import USES
from systolith.sim.stimulus.host_parts.islands import ISLANDS
from systolith.sim.stimulus.host_parts.mixed_network import HOST_OPERATORS, random_host_network
from systolith.sim.stimulus.host_parts.sources import SOURCES
from systolith.sim.stimulus.host_parts.tensors import HostTensors
from systolith.sim.stimulus.network import RandomNetwork
from systolith.sim.stimulus.subgraphs import graphs, needed, reads
from systolith.sim.stimulus.tensors import Impossible, SeededDraws
from tests.support.seeds import each_seed, many

pytestmark = pytest.mark.slow  # 250 networks are drawn before the first test.
MANY = many(250)
OPERATORS = {
    "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Compress", "Concat", "ConcatFromSequence",
    "ConstantOfShape", "Conv", "ConvTranspose",
    "CumSum", "DynamicQuantizeLinear", "Einsum", "Expand", "Gather", "GatherND", "Gemm", "If",
    "Loop", "LpPool", "MatMul", "MaxPool", "NonMaxSuppression", "NonZero", "OneHot", "Optional", "Pad", "QLinearConv",
    "Range", "Reshape", "Resize", "Scan", "ScatterND", "SequenceAt", "Shape", "Size", "Slice", "Softmax",
    "SplitToSequence", "Tile", "TopK", "Unique", "Where",
}  # fmt: skip
"""Operators that are in some of so many networks."""


def network(seed: int) -> RandomNetwork:
    return random_host_network(SeededDraws(np.random.default_rng(seed)))


def everywhere(graph: GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in graphs(node):
            yield from everywhere(inner)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[RandomNetwork, ModelProto]]:
    networks = [network(seed) for seed in range(MANY)]
    return [(each, onnx.load_from_string(each.model)) for each in networks]


def test_they_have_operators_of_all_kinds(drawn):
    found = {node.op_type for _, model in drawn for node in everywhere(model.graph)}
    assert found >= OPERATORS, OPERATORS - found
    kinds = Counter(kind for each, _ in drawn for kind in set(each.kinds))
    assert kinds.keys() >= HOST_OPERATORS.keys()
    assert sum(bool(set(each.kinds) & HOST_OPERATORS.keys()) for each, _ in drawn) > MANY * 0.8


def test_they_are_sound(drawn):
    """ONNX's checker takes them, but for outputs without a shape, and ONNX Runtime runs them as they are."""
    for each, model in drawn:
        declared = ModelProto.FromString(each.model)
        for port in declared.graph.output:
            port.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(declared)
        values = unoptimized.run(each.model, each.inputs)
        assert len(values) == len(model.graph.output)


def test_outputs_are_of_all_kinds(drawn):
    ports = [port for _, model in drawn for port in model.graph.output]
    types = {onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type).name for port in ports}
    assert types >= {"bool", "float16", "float32", "float64", "int32", "int64", "int8", "uint8"}
    shapes = [port.type.tensor_type for port in ports]
    assert any(not kind.HasField("shape") for kind in shapes)
    assert any(kind.HasField("shape") and not kind.shape.dim for kind in shapes)
    assert any(dim.dim_param for kind in shapes for dim in kind.shape.dim)
    names = [{port.name for port in model.graph.output} for _, model in drawn]
    assert any(found & each.inputs.keys() for found, (each, _) in zip(names, drawn, strict=True))
    assert any(
        found & {t.name for t in model.graph.initializer} for found, (_, model) in zip(names, drawn, strict=True)
    )
    assert any(len(found) < len(model.graph.output) for found, (_, model) in zip(names, drawn, strict=True))


def test_names_are_of_all_kinds(drawn):
    names = {name for _, model in drawn for node in model.graph.node for name in node.output}
    for mark in (":0", ".", "/", "_quantized", "::"):
        assert any(mark in name for name in names), mark
    assert any(name.isdecimal() for name in names)


def test_a_network_is_made_from_its_draws_alone():
    for seed in each_seed(range(many(10))):
        one, again = network(seed), network(seed)
        assert one.model == again.model
        assert all((one.inputs[name] == again.inputs[name]).all() for name in one.inputs)
    assert network(1).model != network(2).model


class Drawn:
    """Choices of hypothesis."""

    def __init__(self, draw: st.DrawFn):
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))


@settings(max_examples=many(20), derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_property_based_tests_can_draw_them(data: st.DataObject):
    each = random_host_network(Drawn(data.draw))
    unoptimized.run(each.model, each.inputs)


@pytest.mark.parametrize("table", [SOURCES, USES, ISLANDS], ids=["sources", "uses", "islands"])
def test_every_function_fits_some_tensor(table, monkeypatch: pytest.MonkeyPatch):
    made: set[str] = set()

    def counted(name, function):
        def wrapped(*arguments):
            result = function(*arguments)
            made.add(name)
            return result

        return wrapped

    for name, function in list(table.items()):
        monkeypatch.setitem(table, name, counted(name, function))
    for seed in range(4 * MANY):
        random_host_network(SeededDraws(np.random.default_rng(seed)), only=("count_chain", "island"))
        if made == table.keys():
            return
    pytest.fail(f"never made: {table.keys() - made}")


@pytest.mark.slow
def test_cases_on_the_instruction_simulator():
    """Parts compute what the whole does, unoptimized. The campaign's processes outlive a case that ends one."""
    verdicts = list(campaign(count(1), many(30), "isa", 1, host=True))
    assert [(verdict.seed, verdict.message) for verdict in verdicts if verdict.kind == "FAILED"] == []
    assert sum(verdict.kind in UNCOMPARED for verdict in verdicts) < many(3)


def test_reads_and_needs_of_graphs_inside():
    """What a graph inside a node takes from outside is read by the node."""
    port = onnx.helper.make_tensor_value_info("y", 1, None)
    inner = onnx.helper.make_graph([onnx.helper.make_node("Add", ["outer", "own"], ["y"])], "inner", [], [port],
                                   [onnx.numpy_helper.from_array(np.float32(1), "own")])  # fmt: skip
    choice = onnx.helper.make_node("If", ["condition"], ["z"], then_branch=inner, else_branch=inner)
    assert set(reads(choice)) == {"condition", "outer"}
    maker = onnx.helper.make_node("Neg", ["x"], ["outer"])
    other = onnx.helper.make_node("Abs", ["x"], ["unused"])
    assert needed([maker, other, choice], ["z"]) == [maker, choice]


def test_what_does_not_fit_leaves_nothing_behind():
    """An operator that turns out to be impossible takes its nodes, inputs and outputs with it."""
    for seed in each_seed(range(many(40))):
        each = network(seed)
        model = onnx.load_from_string(each.model)
        initializers = {tensor.name for tensor in model.graph.initializer}
        assert {port.name for port in model.graph.input} - initializers == each.inputs.keys()


def test_a_node_that_ends_onnxruntime_is_drawn_again():
    """InstanceNormalization of a tensor without elements."""
    net = HostTensors(SeededDraws(np.random.default_rng(1)), 17, np.dtype("int8"))
    empty = net.floats(np.zeros((1, 7, 1, 0)))
    with pytest.raises(Impossible, match="ends with SIG"):
        net.host("InstanceNormalization", [empty, net.floats(np.ones(7)), net.floats(np.ones(7))])
    assert net.values(net.host("Relu", [empty])).shape == (1, 7, 1, 0)
