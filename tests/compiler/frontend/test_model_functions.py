"""Functions of a model: default values of attributes, other opsets, other domains; all against ONNX Runtime's own
inlining of the file."""

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper

from systolith import PRESETS, SystolithError
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.network import compile_network
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.split_models import IMAGE, Net

TINY = PRESETS["tiny4"]
DOMAIN = "loc"
FLOAT, INT, INTS = AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.INTS


def reference_to(name: str, outer: str, kind: AttributeProto.AttributeType) -> AttributeProto:
    """An attribute whose value is the one of the function's attribute `outer`."""
    return AttributeProto(name=name, ref_attr_name=outer, type=kind)


def node(op: str, domain: str = "", refs: Sequence = (), **given) -> NodeProto:
    made = helper.make_node(op, ["x"], ["y"], domain=domain, **given)
    made.attribute.extend(refs)
    return made


def function(name: str, body: NodeProto, defaults: dict | None = None, others: Sequence[str] = (), opset: int = 17,
             domains: Sequence[tuple[str, int]] = ()) -> FunctionProto:  # fmt: skip
    opsets = [helper.make_opsetid(*pair) for pair in (("", opset), (DOMAIN, 1), *domains)]
    made = helper.make_function(DOMAIN, name, ["x"], ["y"], [body], opsets, list(others))
    made.attribute_proto.extend(helper.make_attribute(key, value) for key, value in (defaults or {}).items())
    return made


def network(functions: Sequence[FunctionProto], **given) -> bytes:
    """A convolution, the first function, a convolution."""
    net = Net()
    x = net.real(net.conv(net.image()))
    y = net.node(functions[0].name, [x], domain=DOMAIN, **given)
    net.floats(net.conv(net.small(y)), IMAGE)
    model = ModelProto.FromString(net.model())
    model.functions.extend(functions)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model.SerializeToString()


LEAKY = [reference_to("alpha", "a", FLOAT)]
CASES = {
    "default": ([function("F", node("LeakyRelu", refs=LEAKY), {"a": 0.3})], {}),
    "given": ([function("F", node("LeakyRelu", refs=LEAKY), {"a": 0.3})], {"a": 0.7}),
    "axis of the host": ([function("F", node("Softmax", refs=[reference_to("axis", "a", INT)]), {"a": 1})], {}),
    "order": ([function("F", node("Transpose", refs=[reference_to("perm", "a", INTS)]), {"a": [0, 1, 3, 2]})], {}),
    "none": ([function("F", node("LeakyRelu", refs=LEAKY), others=["a"])], {}),
    "nested": ([function("F", node("G", DOMAIN)), function("G", node("LeakyRelu", refs=LEAKY), {"a": 0.3})], {}),
    "nested, given": ([function("F", node("G", DOMAIN, a=0.6)),
                       function("G", node("LeakyRelu", refs=LEAKY), {"a": 0.3})], {}),
    "nested, passed on": ([function("F", node("G", DOMAIN, [reference_to("a", "b", FLOAT)]), {"b": 0.4}),
                           function("G", node("LeakyRelu", refs=LEAKY), {"a": 0.3})], {}),
    "nested, passed on, none": ([function("F", node("G", DOMAIN, [reference_to("a", "b", FLOAT)]), others=["b"]),
                                 function("G", node("LeakyRelu", refs=LEAKY), {"a": 0.3})], {}),
    "domain": ([function("F", node("QuickGelu", "com.microsoft"), domains=[("com.microsoft", 1)])], {}),
    "opset": ([function("F", node("Relu"), opset=16)], {}),
    "newer opset": ([function("F", node("Relu"), opset=18)], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_function_means(name):
    source = network(*CASES[name][:1], **CASES[name][1])
    compiled = compile_network(source, TINY)
    inputs = random_inputs(compiled, 1)
    read = read_model(source).SerializeToString()
    (expected,), (found,) = (reference.run(model, inputs, "none").values() for model in (source, read))
    assert np.array_equal(expected, found)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    assert check(compiled, inputs, outputs, source).passed


def test_an_attribute_that_means_two_things():
    """Left out, it is the inner function's default for one node, and the operator's for the other."""
    inner = function("G", node("LeakyRelu", refs=LEAKY), {"a": 0.3})
    first = helper.make_node("LeakyRelu", ["x"], ["z"])
    first.attribute.extend([reference_to("alpha", "b", FLOAT)])
    second = helper.make_node("G", ["z"], ["y"], domain=DOMAIN)
    second.attribute.extend([reference_to("a", "b", FLOAT)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    outer = helper.make_function(DOMAIN, "F", ["x"], ["y"], [first, second], opsets, ["b"])
    with pytest.raises(SystolithError, match="attribute 'b' of function 'F' must have a default value"):
        compile_network(network([outer, inner]), TINY)


def test_an_older_softmax():
    """In opset 11 it is over all axes from the second on; ONNX Runtime runs it as one of the model's opset."""
    source = network([function("F", node("Softmax"), opset=11)])
    compiled = compile_network(source, TINY)
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    found = check(compiled, inputs, outputs, source)
    assert found.passed
    assert (
        "ONNX Runtime runs functions of another opset in the model's: the file as given is not compared" in found.notes
    )


def test_a_wrong_reading_is_seen(monkeypatch):
    """The check compares with the file as it is given."""
    source = network(*CASES["default"][:1])
    monkeypatch.setattr("systolith.compiler.frontend.model.functions._fill", lambda *_: None)
    compiled = compile_network(source, TINY)
    inputs = random_inputs(compiled, 1)
    outputs, _ = run(compiled, inputs, TINY, "isa")
    assert check(compiled, inputs, outputs).passed
    found = check(compiled, inputs, outputs, source)
    assert not found.passed
    assert found.read > 0
    assert any(note.startswith("reading the model changes") for note in found.notes)
