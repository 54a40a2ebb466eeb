"""Changes of a protocol buffer: any field that is set, anywhere in it, cleared, repeated, removed or changed."""

from collections.abc import Iterator

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from systolith.sim.fuzz.damage import INTEGERS, REALS, TEXTS, damaged_bytes, pick

__all__ = ["damage", "fields"]


def fields(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """All fields that are set, of the message and of those in it."""
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is None:
            continue
        for inner in [value] if isinstance(value, Message) else value:
            yield from fields(inner)


def damage(rng: np.random.Generator, model: ModelProto) -> str:
    """One change of the model; says which."""
    if rng.random() < 0.1:
        return _add(rng, model)
    message, field = pick(rng, list(fields(model)))
    names = [name for node in model.graph.node for name in (*node.input, *node.output, node.op_type)] or [""]
    kind = int(rng.integers(0, 3))
    value = getattr(message, field.name)
    if kind == 0:
        message.ClearField(field.name)
    elif not hasattr(value, "append"):
        if field.message_type is not None:
            value.Clear()
        else:
            _set(rng, message, field, value, names)
    else:
        _change_list(rng, field, value, kind, names)
    return f"{message.DESCRIPTOR.name}.{field.name}"


def _set(rng: np.random.Generator, message: Message, field: FieldDescriptor, value, names: list[str]) -> None:
    try:
        setattr(message, field.name, _changed(rng, value, names))
    except ValueError:  # Not of the field's range.
        message.ClearField(field.name)


def _change_list(rng: np.random.Generator, field: FieldDescriptor, values, kind: int, names: list[str]) -> None:
    place = int(rng.integers(0, len(values)))
    if kind == 1:
        del values[place]
    elif field.message_type is not None:
        values.append(values[place])
    else:
        try:
            values[place] = _changed(rng, values[place], names)
        except ValueError:
            values.append(values[place])


def _changed(rng: np.random.Generator, value, names: list[str]):
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return int(pick(rng, INTEGERS))
        case float():
            return float(pick(rng, REALS))
        case str():
            return str(pick(rng, [*names, *TEXTS]))
        case bytes():
            numbers = np.array([pick(rng, INTEGERS) for _ in range(max(len(value) // 8, 1))], np.int64).tobytes()
            return pick(rng, [value[: len(value) // 2], value * 2, b"", numbers, damaged_bytes(rng, value)])
    raise TypeError(f"a field must be a scalar, not {value!r}")


def _add(rng: np.random.Generator, model: ModelProto) -> str:
    """Something that the model does not have: external data, a subgraph, a domain, a huge constant, a cycle."""
    nodes, stored = model.graph.node, model.graph.initializer
    tensor = pick(rng, stored) if stored else stored.add(name="more")
    node = pick(rng, nodes) if nodes else nodes.add()
    match int(rng.integers(7)):
        case 0:
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", str(pick(rng, ["/etc/passwd", "../x", "x", ".", ""]))),
                               ("offset", str(pick(rng, INTEGERS))), ("length", str(pick(rng, INTEGERS)))):  # fmt: skip
                tensor.external_data.add(key=key, value=value)
            return "external data"
        case 1:
            _nest(node, int(rng.choice([1, 5, 20, 31, 60])))
            return "nested graphs"
        case 2:
            node.domain = str(pick(rng, ["com.example", "ai.onnx.training", "com.microsoft", "ai.onnx.ml"]))
            return "domain"
        case 3:
            shape = [int(pick(rng, INTEGERS)) for _ in range(int(rng.integers(1, 5)))]
            stored.append(helper.make_tensor("shape", TensorProto.INT64, [len(shape)], shape))
            nodes.insert(0, helper.make_node("ConstantOfShape", ["shape"], [str(pick(rng, ["huge", *node.input]))]))
            return "huge constant"
        case 4:
            if node.input and node.output:
                node.input[int(rng.integers(len(node.input)))] = node.output[0]
            return "cycle"
        case 5:
            del tensor.dims[:]
            tensor.dims.extend(int(pick(rng, INTEGERS)) for _ in range(int(rng.integers(0, 5))))
            return "dims"
        case _:
            tensor.data_type = int(rng.integers(0, 25))
            return "data type"


def _nest(node: NodeProto, depth: int) -> None:
    """Graphs in attributes of each other."""
    for _ in range(depth):
        attribute = node.attribute.add(name="then_branch")
        attribute.type = AttributeProto.GRAPH
        node = attribute.g.node.add(op_type="If", input=["x"], output=["y"])
