"""Valid models with one field, node or initializer removed, repeated or changed: a refusal in one line, or a network
that computes what ONNX Runtime does; no other exception."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import numpy_helper
from split_models import MODELS

from systolith import PRESETS
from systolith.compiler.frontend.importer import import_model
from systolith.compiler.network import compile_network
from systolith.errors import SystolithError
from systolith.sim.check import check
from systolith.sim.inputs import random_inputs
from systolith.sim.model_writer import ModelWriter
from systolith.sim.run import run

NUMBERS = (-(2**40), -129, -2, -1, 0, 1, 2, 3, 7, 11, 255, 2**31 - 1, 2**31, 2**62)
REALS = (-1.0, 0.0, 1e-45, 0.5, 3e38, float("nan"), float("inf"))


def model() -> onnx.ModelProto:
    """A small network with most kinds of nodes."""
    rng = np.random.default_rng(1)
    w = ModelWriter(17)

    def ints(*numbers: int) -> str:
        return w.constant(np.array(numbers, np.int64))

    def conv(x: str, op: str, *shape: int, **attributes) -> str:
        kernel = w.dequantize(w.constant(rng.integers(-99, 99, shape).astype(np.int8)), 0.01, np.int8(0))
        bias = w.dequantize(w.constant(rng.integers(-99, 99, 4).astype(np.int32)),
                            np.float32(0.1) * np.float32(0.01), np.int32(0))  # fmt: skip
        return w.node(op, [x, kernel, bias], **attributes)

    def again(x: str, scale: float = 0.1) -> str:
        return w.dequantize(w.quantize(x, scale, np.uint8(99)), scale, np.uint8(99))

    x = w.dequantize(w.input("x", np.uint8, (1, 4, 6, 6)), 0.1, np.uint8(99))
    y = again(w.node("Relu", [conv(x, "Conv", 4, 2, 3, 3, group=2, pads=[1, 1, 1, 1], kernel_shape=[3, 3])]))
    up = again(conv(y, "ConvTranspose", 4, 4, 2, 2, strides=[2, 2]))
    near = w.node("Resize", [y, "", w.constant(np.array([1, 1, 2, 2], np.float32))],
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    y = again(w.node("Concat", [up, again(near, 0.2)], axis=1), 0.3)
    y = w.node("Transpose", [w.node("Reshape", [y, ints(1, 2, 4, 12, 12)])], perm=[0, 2, 1, 3, 4])
    y = w.node("Pad", [w.node("Reshape", [y, ints(1, 8, 12, 12)]), ints(0, 0, 1, 0, 0, 0, 0, 2)])
    y = w.node("Slice", [y, ints(1, 0), ints(5, 12), ints(1, 2), ints(1, 2)])
    y = again(w.node("MaxPool", [y], kernel_shape=[2, 3], strides=[2, 2]), 0.3)
    y = again(w.node("Add", [y, w.node("Sigmoid", [y])]))
    y = w.node("Reshape", [y, w.node("Concat", [w.node("Gather", [w.node("Shape", [y]), ints(0)]), ints(-1)], axis=0)])
    kernel = w.dequantize(w.constant(rng.integers(-99, 99, (72, 5)).astype(np.int8)), 0.01, np.int8(0))
    w.output(w.quantize(w.node("Gemm", [y, kernel]), 0.5, np.uint8(3)), np.uint8, (1, 5))
    return onnx.load_model_from_string(w.model())


def fields(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """All fields that are set, of the message and of those in it."""
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is None:
            continue
        for inner in [value] if isinstance(value, Message) else value:
            yield from fields(inner)


def changed(rng: np.random.Generator, field: FieldDescriptor, value: object, names: list[str]) -> object:
    match value:
        case bool():
            return not value
        case int():
            return int(rng.choice(NUMBERS))
        case float():
            return float(rng.choice(REALS))
        case str():
            return str(rng.choice([*names, "", "é", "a" * 200]))
        case bytes():
            return [value[: len(value) // 2], value * 2, b"", bytes(rng.integers(0, 256, len(value), np.uint8))][
                int(rng.integers(0, 4))
            ]
    raise TypeError(f"field {field.name} must be a scalar, not {value!r}")


def damage(rng: np.random.Generator, damaged: onnx.ModelProto) -> str:
    """Change one field; say which."""
    every = list(fields(damaged))
    message, field = every[int(rng.integers(0, len(every)))]
    names = [name for node in damaged.graph.node for name in (*node.input, *node.output, node.op_type)]
    value = getattr(message, field.name)
    kind = int(rng.integers(0, 3))
    if kind == 0:
        message.ClearField(field.name)
    elif not hasattr(value, "append"):
        if field.message_type is None:
            try:
                setattr(message, field.name, changed(rng, field, value, names))
            except ValueError:  # Not of the field's range.
                message.ClearField(field.name)
        else:
            value.Clear()
    else:
        place = int(rng.integers(0, len(value)))
        if kind == 1:
            del value[place]
        elif field.message_type is not None:
            value.append(value[place])
        else:
            try:
                value[place] = changed(rng, field, value[place], names)
            except ValueError:
                value.append(value[place])
    return f"{message.DESCRIPTOR.name}.{field.name}"


def test_the_model_is_good():
    assert len(import_model(model().SerializeToString()).layers) > 15


@pytest.mark.parametrize("seed", range(250))
def test_one_damaged_field(seed):
    rng = np.random.default_rng(seed)
    damaged = model()
    print(damage(rng, damaged))
    try:
        import_model(damaged.SerializeToString(), "net.onnx")
    except SystolithError as error:
        print(error)
        assert str(error).startswith("net.onnx: ")
        assert "\n" not in str(error)
        assert len(str(error)) < 1000


def bypass(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """What read a node reads the node's input."""
    node = graph.node[int(rng.integers(len(graph.node)))]
    for reader in graph.node:
        for i, name in enumerate(reader.input):
            if name in node.output and node.input:
                reader.input[i] = node.input[0]
    graph.node.remove(node)


def rewire(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """A node reads another tensor."""
    node = graph.node[int(rng.integers(len(graph.node)))]
    names = [name for other in graph.node for name in (*other.input, *other.output) if name]
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = str(rng.choice(names))


def operator(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """A node becomes one of another operator."""
    known = ("Relu", "Sigmoid", "Softmax", "Add", "Mul", "Flatten", "Transpose", "Identity", "Neg", "Exp", "ReduceMax")
    graph.node[int(rng.integers(len(graph.node)))].op_type = str(rng.choice(known))


def initializer(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """An initializer of another shape, type or value."""
    tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
    values = np.array(numpy_helper.to_array(tensor))
    changes = [values[None], values.reshape(-1), values.reshape(-1)[:0], np.resize(values, 3), values.T,
               np.concatenate([values.reshape(-1)] * 2), np.zeros_like(values), np.ones_like(values),
               *(values.astype(kind) for kind in (np.int8, np.uint8, np.int32, np.float32, np.float16))]  # fmt: skip
    tensor.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(changes[int(rng.integers(len(changes)))]), tensor.name)
    )


def port(rng: np.random.Generator, graph: onnx.GraphProto) -> None:
    """An input or output of another type, or one more output."""
    names = [name for node in graph.node for name in (*node.input, *node.output) if name]
    kind = int(rng.choice([onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]))
    if rng.random() < 0.5:
        ports = [*graph.input, *graph.output]
        ports[int(rng.integers(len(ports)))].type.tensor_type.elem_type = kind
    else:
        rank = int(rng.integers(5))
        graph.output.append(onnx.helper.make_tensor_value_info(str(rng.choice(names)), kind, [None] * rank))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # Of casts that are part of the damage.
@pytest.mark.parametrize("seed", range(120))
def test_changed_networks(seed):
    rng = np.random.default_rng(seed)
    names = list(MODELS)
    name = names[seed % len(names)]
    damaged = onnx.load_model_from_string(MODELS[name][0]().model()) if seed % 3 else model()
    change = [bypass, rewire, operator, initializer, port][int(rng.integers(5))]
    change(rng, damaged.graph)
    try:
        network = compile_network(damaged.SerializeToString(), PRESETS["tiny4"])
    except SystolithError as error:
        assert "\n" not in str(error)
        return
    inputs = random_inputs(network, seed)
    outputs, _ = run(network, inputs, PRESETS["tiny4"], "isa")
    found = check(network, inputs, outputs)
    assert found.passed, (name, change.__name__, found)
    assert found.onnxruntime is not None, found.notes
