"""Valid models with one field removed, repeated or changed: a graph, or a refusal in one line; no other exception."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from systolith.compiler.frontend.importer import import_model
from systolith.errors import SystolithError
from systolith.sim.model_writer import ModelWriter

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
