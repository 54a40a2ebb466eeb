"""Shapes that only a run can know: nothing that was computed from them is a constant, and nothing runs on zeros."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from systolith import PRESETS
from systolith.compiler.network import compile_network
from systolith.network import HostPart, Network
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.seeds import each_seed, many
from tests.support.split_models import CHANNELS, IMAGE, SIZE, Net

TINY = PRESETS["tiny4"]


def numbers(net: Net, *values: int) -> str:
    return net.constant(np.array(values, np.int64))


def whole(net: Net, name: str, kind: int = TensorProto.INT64) -> None:
    """Make a tensor of any shape an output."""
    net.outputs.append(helper.make_tensor_value_info(name, kind, None))


def positives(net: Net, x: str) -> str:
    """Where a quantized tensor is positive: int64 [4, count]."""
    return net.node("NonZero", [net.node("Greater", [net.real(x), net.constant(np.float32(0.5))])])


def count_of(net: Net, x: str, **attributes: int) -> str:
    return net.node("Shape", [positives(net, x)], **attributes)


def counted() -> Net:
    """The number of positive elements, and their mean."""
    net = Net()
    x = net.conv(net.image())
    count = net.node("Squeeze", [count_of(net, x, start=1, end=2)])
    whole(net, count)
    total = net.node("ReduceSum", [net.node("Relu", [net.real(x)])], keepdims=0)
    whole(net, net.node("Div", [total, net.node("Cast", [count], to=TensorProto.FLOAT)]), TensorProto.FLOAT)
    return net


def sized() -> Net:
    """Size of what NonZero leaves."""
    net = Net()
    whole(net, net.node("Size", [positives(net, net.conv(net.image()))]))
    return net


def shape_with_bounds() -> Net:
    """Negative bounds of Shape, of which a part is known and a part is not."""
    net = Net()
    x = net.conv(net.image())
    found = positives(net, x)
    whole(net, net.node("Shape", [found], start=-1))
    whole(net, net.node("Shape", [found], end=-1))
    return net


def top() -> Net:
    """TopK of as many as are positive: it cannot run on zeros, where there are none."""
    net = Net()
    x = net.conv(net.image())
    k = count_of(net, x, start=1)
    flat = net.node("Reshape", [net.real(x), numbers(net, -1)])
    net.nodes.append(helper.make_node("TopK", [flat, k], ["values", "indices"], "top"))
    whole(net, "values", TensorProto.FLOAT)
    whole(net, "indices")
    return net


def cut() -> Net:
    """Rows cut behind the first that has a large value, and a convolution of what is left, on the host."""
    net = Net()
    x = net.real(net.conv(net.image()))
    large = net.node("Greater", [net.node("ReduceMax", [x], keepdims=0), net.constant(np.float32(1))])
    rows = net.node("Add", [net.node("Cast", [large], to=TensorProto.INT64), numbers(net, 2)])
    y = net.node("Slice", [x, numbers(net, 0), rows, numbers(net, 2)])
    net.floats(net.conv(net.small(y)), [1, 4, "rows", 6])
    return net


def again() -> Net:
    """A shape that depends on data for a while: the accelerator goes on where it is known again."""
    net = Net()
    x = net.conv(net.image())
    k = count_of(net, x, start=1)
    flat = net.node("Reshape", [net.real(x), numbers(net, -1)])
    net.nodes.append(helper.make_node("TopK", [flat, k], ["most", "places"], "top"))
    total = net.node("ReduceMean", ["most"], axes=[0], keepdims=1)
    y = net.node("Add", [net.real(x), net.node("Reshape", [total, numbers(net, 1, 1, 1, 1)])])
    net.floats(net.conv(net.small(y)), IMAGE)
    return net


def boxes() -> Net:
    """NonMaxSuppression, and the scores that it keeps."""
    net = Net()
    x = net.conv(net.image())
    scores = net.node("Reshape", [net.node("Sigmoid", [net.real(x)]), numbers(net, 1, 1, -1)])
    corners = np.random.default_rng(0).uniform(0, 1, (1, CHANNELS * SIZE * SIZE, 4)).astype(np.float32)
    most, overlap, least = (numbers(net, 9), *(net.constant(np.float32(v)) for v in (0.3, 0.6)))
    kept = net.node("NonMaxSuppression", [net.constant(corners), scores, most, overlap, least])
    whole(net, kept)
    whole(net, net.node("Shape", [kept]))
    whole(net, net.node("GatherND", [scores, kept]), TensorProto.FLOAT)
    return net


def branch() -> Net:
    """If, whose branches have other shapes, and a Shape behind it."""
    net = Net()
    x = net.real(net.conv(net.image()))
    yes = net.node("Greater", [net.node("ReduceSum", [x], keepdims=0), net.constant(np.float32(0))])
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "b")]
    then = helper.make_graph([helper.make_node("Flatten", [x], ["a"], axis=2)], "then", [], port[:1])
    other = helper.make_graph([helper.make_node("Identity", [x], ["b"])], "else", [], port[1:])
    y = net.node("If", [yes], then_branch=then, else_branch=other)
    whole(net, net.node("Shape", [y]))
    return net


NETWORKS = {f.__name__: f for f in (counted, sized, shape_with_bounds, top, cut, again, boxes, branch)}


@pytest.mark.parametrize("name", NETWORKS)
def test_runs_compute_what_shapes_depend_on(name):
    model = NETWORKS[name]().model(name)
    network = compile_network(model, TINY)
    assert isinstance(network, Network)
    shapes = set()
    for seed in each_seed(range(many(6))):
        inputs = random_inputs(network, seed)
        inputs["x"] = inputs["x"] * np.float32(0 if seed == 5 and name != "again" else 1)
        try:
            theirs = reference.run(model, inputs, "none")
        except ValueError:
            assert name == "top"
            continue
        outputs, _ = run(network, inputs, TINY, "isa")
        for key, value in theirs.items():
            assert outputs[key].shape == value.shape
            assert outputs[key].dtype == value.dtype
            if value.dtype == np.int64:
                assert np.array_equal(outputs[key], value)
            else:
                assert np.allclose(outputs[key], value, atol=0.051, equal_nan=True)
        shapes.add(str([(y.shape, y.tolist() if y.size == 1 else 0) for y in outputs.values()]))
        assert check(network, inputs, outputs).passed
    assert len(shapes) > 1 or name == "again"


def test_known_shapes_are_constants():
    """Nothing of the network waits for a tensor only because its shape is read."""
    net = Net()
    x = net.conv(net.image())
    size = net.node("Gather", [net.node("Shape", [net.real(x)]), numbers(net, 1)])
    flat = net.node("Reshape", [net.real(x), net.node("Concat", [numbers(net, 1), size, numbers(net, -1)], axis=0)])
    net.output(flat, np.float32, [1, CHANNELS, SIZE * SIZE])
    assert not isinstance(compile_network(net.model(), TINY, strict=True), Network)


def test_the_accelerator_goes_on_behind():
    network = compile_network(again().model(), TINY)
    assert isinstance(network, Network)
    assert [isinstance(part, HostPart) for part in network.parts] == [False, True, False]


def test_why_a_node_is_on_the_host():
    network = compile_network(cut().model(), TINY)
    assert isinstance(network, Network)
    assert any("which is not quantized" in n.reason or "is not known before it runs" in n.reason
               for n in network.host_nodes if n.op == "Conv")  # fmt: skip


def test_a_sequence_goes_from_host_part_to_host_part():
    net = Net()
    x = net.real(net.conv(net.image()))
    both = net.node("SequenceConstruct", [x, net.node("Softmax", [x], axis=1)])
    z = net.real(net.conv(net.host(net.conv(net.image("z")))))
    longer = net.node("SequenceInsert", [both, net.node("Softmax", [z], axis=1)])
    net.output(net.node("ConcatFromSequence", [longer], axis=1), np.float32, [1, 12, SIZE, SIZE])
    network = compile_network(net.model(), TINY)
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert check(network, inputs, outputs).passed


def test_random_numbers_are_drawn_once():
    """A node that draws them without an input is no constant: two parts that read them see the same."""
    net = Net()
    x = net.real(net.conv(net.image()))
    noise = net.node("RandomNormal", [], shape=IMAGE)
    y = net.conv(net.small(net.node("Softmax", [net.node("Add", [x, noise])], axis=1)))
    net.output(net.node("Sub", [net.node("Add", [net.real(y), noise]), noise]), np.float32, IMAGE)
    whole(net, noise, TensorProto.FLOAT)
    model = net.model()
    network = compile_network(model, TINY)
    assert isinstance(network, Network)
    made = [part for part in network.parts if isinstance(part, HostPart)
            and any(n.op_type == "RandomNormal" for n in ModelProto.FromString(part.model).graph.node)]  # fmt: skip
    assert len(made) == 1
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, TINY, "isa")
    found = check(network, inputs, outputs)
    assert found.host == 0
    assert any("draws random numbers" in note for note in found.notes)


def test_what_only_a_known_shape_is_read_of_is_not_computed():
    """A branch on the host, of which the network needs no more than a size that is known."""
    net = Net()
    x = net.real(net.conv(net.image()))
    yes = net.node("Greater", [net.node("ReduceSum", [x], keepdims=0), net.constant(np.float32(0))])
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, IMAGE) for name in ("a", "b")]
    then = helper.make_graph([helper.make_node("Neg", [x], ["a"])], "then", [], port[:1])
    other = helper.make_graph([helper.make_node("Identity", [x], ["b"])], "else", [], port[1:])
    size = net.node("Size", [net.node("If", [yes], then_branch=then, else_branch=other)])
    scale = net.node("Div", [net.node("Cast", [size], to=TensorProto.FLOAT), net.constant(np.float32(100))])
    net.floats(net.small(net.node("Mul", [x, scale])), IMAGE)
    network = compile_network(net.model(), TINY, strict=True)
    assert isinstance(network, Network)
    assert [isinstance(part, HostPart) for part in network.parts] == [False]
