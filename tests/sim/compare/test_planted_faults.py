"""Planted faults of every place between a model and a verdict: in the partition, in the host's run, in the check.

Each is seen by the check, and by the judge, which knows nothing of parts. Faults of the partition and of host parts are
made in the compiled network: what a wrong partition or a wrong host part would be, the reference's model apart.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper, numpy_helper

from systolith import PRESETS, SystolithError
from systolith.compiler.network import compile_network
from systolith.network import HostPart, Network
from systolith.program import Program
from systolith.sim.compare.outputs import check
from systolith.sim.compare.whole_network import has_values, judge
from systolith.sim.golden import golden
from systolith.sim.reference import reference, unoptimized
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.split_models import IMAGE, Net

TINY = PRESETS["tiny4"]
Outputs = dict[str, NDArray]


def model() -> bytes:
    """Accelerator, host, accelerator, host: the second host part has outputs of several types and a count."""
    net = Net()
    a = net.conv(net.input("x", np.int8, IMAGE))
    soft = net.small(net.node("Softmax", [net.real(a)], name="soft", axis=1))
    local = net.small(net.node("LRN", [net.real(net.conv(a))], name="local", size=3, alpha=0.5))
    y = net.conv(net.small(net.node("Sub", [net.real(soft), net.real(local)])))
    real = net.real(y)
    net.output(y, np.int8, IMAGE)
    net.output(net.node("Softmax", [real], name="first", axis=1), np.float32, IMAGE)
    scaled = net.node("Mul", [net.node("Erf", [real]), net.constant(np.float32(1.5), "factor")], name="second")
    net.output(scaled, np.float32, IMAGE)
    positive = net.node("Greater", [real, net.constant(np.float32(0.1))])
    found = net.node("NonZero", [positive])
    count = net.node("Gather", [net.node("Shape", [found]), net.constant(np.array([1]))], name="count")
    net.output(count, np.int64, [1])
    net.output(found, np.int64, [4, "found"])
    large = net.node("Greater", [net.node("ReduceMax", [real], keepdims=0), net.constant(np.float32(-9))])
    branches = [branch("Softmax", real), branch("Neg", real)]
    choice = net.node("If", [large], name="choice", then_branch=branches[0], else_branch=branches[1])
    net.output(choice, np.float32, IMAGE)
    return net.model()


def branch(op: str, real: str) -> GraphProto:
    """A graph inside If."""
    y = helper.make_tensor_value_info(f"{op}_inside", TensorProto.FLOAT, IMAGE)
    return helper.make_graph([helper.make_node(op, [real], [y.name])], op, [], [y])


@pytest.fixture(scope="module")
def network() -> Network:
    compiled = compile_network(model(), TINY)
    assert isinstance(compiled, Network)
    kinds = "".join("H" if isinstance(part, HostPart) else "A" for part in compiled.parts)
    assert kinds == "AHAH"
    return compiled


@pytest.fixture(scope="module")
def inputs(network: Network) -> Outputs:
    return random_inputs(network, 1)


def outputs_of(network: Network, inputs: Outputs) -> Outputs:
    return run(network, inputs, TINY, "isa")[0]


def test_without_a_fault_both_pass(network: Network, inputs: Outputs):
    outputs = outputs_of(network, inputs)
    assert check(network, inputs, outputs).passed
    assert judge(network, inputs, outputs).passed


# Faults of partition and host parts: what runs is another network.


def changed(network: Network, number: int, change: Callable[[GraphProto], None]) -> Network:
    """The network with a change in the model of one of its parts; a program is compiled anew."""
    part = network.parts[number]
    model = onnx.load_from_string(part.model)
    before = model.SerializeToString(deterministic=True)
    change(model.graph)
    after = model.SerializeToString(deterministic=True)
    assert after != before
    made = replace(part, model=after) if isinstance(part, HostPart) else compile_network(after, TINY)
    assert not isinstance(made, Network)
    return replace(network, parts=(*network.parts[:number], made, *network.parts[number + 1 :]))


def node(graph: GraphProto, name: str) -> onnx.NodeProto:
    return next(node for node in graph.node if node.name == name)


def exchange(fields, one: str, other: str) -> None:
    """Two names in the place of each other."""
    fields[:] = [{one: other, other: one}.get(name, name) for name in fields]


def attribute_dropped(network: Network) -> Network:
    return changed(network, 1, lambda graph: node(graph, "soft").ClearField("attribute"))


def other_tensor_for_the_host(network: Network) -> Network:
    one, other = (port.name for port in network.parts[1].inputs)

    def change(graph: GraphProto) -> None:
        for each in graph.node:
            exchange(each.input, one, other)

    return changed(network, 1, change)


def other_tensor_for_the_accelerator(network: Network) -> Network:
    one, other = (port.name for port in network.parts[2].inputs)

    def change(graph: GraphProto) -> None:
        for each in graph.node:
            exchange(each.input, one, other)

    return changed(network, 2, change)


def count_of_a_probe(network: Network) -> Network:
    def change(graph: GraphProto) -> None:
        stale = numpy_helper.from_array(np.array([7], np.int64))
        node(graph, "count").CopyFrom(helper.make_node("Constant", [], ["count_out"], "count", value=stale))

    return changed(network, 3, change)


def constant_of_the_host(network: Network) -> Network:
    def change(graph: GraphProto) -> None:
        factor = next(tensor for tensor in graph.initializer if tensor.name.startswith("factor"))
        factor.CopyFrom(numpy_helper.from_array(np.float32(1.501), factor.name))

    return changed(network, 3, change)


def outputs_of_the_host_exchanged(network: Network) -> Network:
    def change(graph: GraphProto) -> None:
        for each in graph.node:
            exchange(each.output, "first_out", "second_out")

    return changed(network, 3, change)


def branches_exchanged(network: Network) -> Network:
    def change(graph: GraphProto) -> None:
        then, other = node(graph, "choice").attribute
        then.name, other.name = other.name, then.name

    return changed(network, 3, change)


def zero_point_between_the_parts(network: Network) -> Network:
    """All elements by one step: less than any tolerance, but for what the accelerator makes of them."""

    def change(graph: GraphProto) -> None:
        quantize = next(each for each in graph.node if each.op_type == "QuantizeLinear" and "soft_out" in each.input)
        zero_point = next(tensor for tensor in graph.initializer if tensor.name == quantize.input[2])
        zero_point.CopyFrom(numpy_helper.from_array(np.int8(4), zero_point.name))

    return changed(network, 1, change)


@pytest.mark.parametrize("fault", [
    attribute_dropped, other_tensor_for_the_host, other_tensor_for_the_accelerator, count_of_a_probe,
    constant_of_the_host, outputs_of_the_host_exchanged, branches_exchanged, zero_point_between_the_parts,
])  # fmt: skip
def test_faults_of_partition_and_host_parts(fault: Callable[[Network], Network], network: Network, inputs: Outputs):
    faulty = fault(network)
    outputs = outputs_of(faulty, inputs)
    assert not judge(faulty, inputs, outputs).passed
    assert not check(faulty, inputs, outputs).passed


# Faults of the host's run: outputs are not what the parts make.


def stale(outputs: Outputs, earlier: Outputs) -> Outputs:
    return {**outputs, "second_out": earlier["second_out"]}


def of_another_type(outputs: Outputs, _: Outputs) -> Outputs:
    return {**outputs, "count_out": outputs["count_out"].astype(np.int32)}


def without_a_dimension(outputs: Outputs, _: Outputs) -> Outputs:
    return {**outputs, "count_out": outputs["count_out"].reshape(())}


def rounded(outputs: Outputs, _: Outputs) -> Outputs:
    return {**outputs, "first_out": outputs["first_out"].astype(np.float16).astype(np.float32)}


@pytest.mark.parametrize("fault", [stale, of_another_type, without_a_dimension, rounded])
def test_faults_of_the_run(fault: Callable[[Outputs, Outputs], Outputs], network: Network, inputs: Outputs):
    earlier = outputs_of(network, random_inputs(network, 2))
    outputs = fault(outputs_of(network, inputs), earlier)
    assert not judge(network, inputs, outputs).passed
    assert not check(network, inputs, outputs).passed


# Faults of the check itself: right outputs do not pass.


def with_a_fault(function: Callable[..., NDArray]) -> Callable[..., NDArray]:
    """The function with one element of many wrong."""

    def wrong(*arguments, **options) -> NDArray:
        result = function(*arguments, **options).copy()
        result.flat[-1:] ^= 64
        return result

    return wrong


def altered(values: NDArray) -> NDArray:
    result = np.array(values)
    result.flat[-1:] = ~result.flat[-1:] if result.dtype == bool else result.flat[-1:] + 40
    return result


def test_a_fault_of_the_golden_model(network: Network, inputs: Outputs, monkeypatch: pytest.MonkeyPatch):
    outputs = outputs_of(network, inputs)
    monkeypatch.setattr(golden, "run_layer", with_a_fault(golden.run_layer))
    assert not judge(network, inputs, outputs).passed
    assert not check(network, inputs, outputs).passed


def test_a_fault_of_the_reference(network: Network, inputs: Outputs, monkeypatch: pytest.MonkeyPatch):
    """ONNX Runtime's results with one element of each wrong."""
    outputs = outputs_of(network, inputs)
    right, optimized = unoptimized.run, reference.run
    monkeypatch.setattr(unoptimized, "run", lambda *given: [altered(values) for values in right(*given)])
    monkeypatch.setattr(
        reference, "run", lambda *given: {name: altered(values) for name, values in optimized(*given).items()}
    )
    assert not judge(network, inputs, outputs).passed
    assert not check(network, inputs, outputs).passed


def test_programs_alone_are_judged():
    """A network without host parts."""
    net = Net()
    net.output(net.conv(net.input("x", np.int8, IMAGE)), np.int8, IMAGE)
    program = compile_network(net.model(), TINY)
    assert isinstance(program, Program)
    inputs = random_inputs(program, 1)
    outputs, _ = run(program, inputs, TINY, "isa")
    assert judge(program, inputs, outputs).passed
    assert not judge(program, inputs, {name: values ^ 1 for name, values in outputs.items()}).passed


def test_values_are_missing_only_where_onnx_runtime_has_none():
    """A TopK of as many elements as an input says: too many, or few enough."""
    net = Net()
    net.output(net.conv(net.input("x", np.int8, IMAGE)), np.int8, IMAGE)
    asked = net.input("k", np.int64, [1])
    net.output(net.node("TopK", [net.constant(np.arange(4.0, dtype=np.float32)), asked], axis=0), np.float32, ["k"])
    net.nodes[-1].output.append("places")
    network = compile_network(net.model(), TINY)
    inputs = random_inputs(network, 1)
    assert has_values(network, {**inputs, "k": np.array([3])})
    assert not has_values(network, {**inputs, "k": np.array([5])})
    with pytest.raises(SystolithError, match="Input 'x' must have shape"):
        has_values(network, {"x": np.zeros((1, 4, 6, 7), np.int8), "k": np.array([3])})
