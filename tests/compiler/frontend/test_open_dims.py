"""Dimensions that exporters leave open by -1; 0 is a size."""

import onnx
from onnx import TensorProto, helper

from systolith.compiler.frontend.model.open_dims import with_open_dims


def shape(port: onnx.ValueInfoProto) -> list[int | str | None]:
    """Each dimension: its size, its name, or None."""
    return [getattr(dim, dim.WhichOneof("value") or "none", None) for dim in port.type.tensor_type.shape.dim]


def graph(dims: list[int | str], nodes=(), name: str = "") -> onnx.GraphProto:
    x, y, z = (helper.make_tensor_value_info(f"{name}{letter}", TensorProto.FLOAT, dims) for letter in "xyz")
    made = graph_of([helper.make_node("Relu", [x.name], [z.name]), *nodes], x, y)
    made.value_info.append(z)
    return made


def graph_of(nodes, x, y) -> onnx.GraphProto:
    return helper.make_graph(nodes, "g", [x], [y])


def test_negative_ones():
    inner = graph([2, -1], name="inner_")
    model = helper.make_model(graph([0, -1, 3, "h", 0, -7], [helper.make_node("If", ["c"], ["y"], then_branch=inner,
                                                                           else_branch=inner)]))  # fmt: skip
    before = model.SerializeToString()
    found = with_open_dims(model).graph
    for port in (*found.input, *found.output, *found.value_info):
        assert shape(port) == [0, None, 3, "h", 0, None]
    for attribute in found.node[1].attribute:
        for port in (*attribute.g.input, *attribute.g.output, *attribute.g.value_info):
            assert shape(port) == [2, None]
    assert model.SerializeToString() == before


def test_others_are_left_alone():
    model = helper.make_model(graph([0, "h", 0, 3]))
    assert with_open_dims(model) is model


def test_what_is_no_tensor():
    port = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [1, 2])
    model = helper.make_model(graph_of([], port, port))
    assert with_open_dims(model) is model
