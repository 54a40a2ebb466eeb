"""ONNX models inside program files: nothing outside the file, no operators of strangers, the ports that the file says.

A program file may come from anybody, and ONNX Runtime reads external data from the current folder.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from systolith.errors import SystolithError

__all__ = ["DOMAINS", "Port", "check_onnx", "check_ports", "check_text", "graphs", "nodes", "parse_model", "tensors",
           "with_sizes"]  # fmt: skip

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""What ONNX Runtime can run."""


class Port(Protocol):
    """An input or output: a size is None where it is open, and the shape where the rank is."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | None] | None: ...
    @property
    def dtype(self) -> str: ...


def parse_model(content: bytes, where: str) -> ModelProto:
    """The model in `content`. Raises SystolithError, which starts with `where`, unless it is a protocol buffer that
    needs no other file, with operators of known domains, its own functions included, and tensors that have the data of
    their shape and type."""
    try:
        model = ModelProto.FromString(content)
    except (DecodeError, UnicodeDecodeError, ValueError):
        raise SystolithError(f"{where} must be an ONNX model; it is none") from None
    check_text(model, where)
    known = {*DOMAINS, *(function.domain for function in model.functions)}
    for message in _messages(model):
        if isinstance(message, TensorProto) and message.data_location != TensorProto.DEFAULT:
            raise SystolithError(f"{where} must hold all its data; tensor '{message.name}' is in another file")
        if isinstance(message, NodeProto) and message.domain not in known:
            raise SystolithError(
                f"{where} must have operators of known domains; {message.op_type} is of '{message.domain}'"
            )
    for tensor in tensors(model):
        try:
            numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError, NotImplementedError, MemoryError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SystolithError(f"{where} tensor '{tensor.name}' cannot be read: {reason}") from None
    return model


def check_onnx(model: ModelProto, where: str) -> None:
    """Raises SystolithError for what ONNX's own checker refuses, but for shapes of inputs and outputs that are not
    there."""
    ports = [port for port in (*model.graph.input, *model.graph.output) if _is_without_shape(port)]
    for port in ports:
        port.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError) as error:
        raise SystolithError(f"{where} is not valid ONNX: {' '.join(str(error).split())[:300]}") from None
    finally:
        for port in ports:
            port.type.tensor_type.ClearField("shape")


def _is_without_shape(port: ValueInfoProto) -> bool:
    return port.type.HasField("tensor_type") and not port.type.tensor_type.HasField("shape")


def check_text(model: ModelProto, where: str) -> None:
    """Raises SystolithError for a name or other text that is not UTF-8: protobuf gives it as bytes."""
    for message in _messages(model):
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING:
                for text in [value] if isinstance(value, str | bytes) else value:
                    if isinstance(text, bytes):
                        raise SystolithError(f"{where}: {field.name} must be text in UTF-8, not {text[:60]!r}")


def check_ports(model: ModelProto, inputs: Sequence[Port], outputs: Sequence[Port], where: str) -> None:
    """Raises SystolithError unless the model's inputs and outputs are these: names, types, and sizes of inputs."""
    stored = {tensor.name for tensor in model.graph.initializer}
    stored |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    found = [port for port in model.graph.input if port.name not in stored]
    for kind, ports, expected in (("inputs", found, inputs), ("outputs", model.graph.output, outputs)):
        names, wanted = [port.name for port in ports], [port.name for port in expected]
        if sorted(names) != sorted(wanted) or len(set(names)) != len(names):
            raise SystolithError(f"{where} must have {kind} {_list(wanted)}, not {_list(names)}")
    by_name = {port.name: port for port in (*found, *model.graph.output)}
    for port in (*inputs, *outputs):
        if not _same_type(by_name[port.name], port):
            raise SystolithError(f"{where} must have a tensor '{port.name}' of type {port.dtype}; it has another type")
    for port in inputs:
        if not _fits(by_name[port.name], port.shape):
            raise SystolithError(f"{where} must have an input '{port.name}' of shape {port.shape}; it has another one")


def with_sizes(model: ModelProto, inputs: Iterable[Port]) -> ModelProto:
    """A copy whose inputs have the sizes that they have here, where these are known: a batch, which the model may leave
    open. Without shapes inferred before."""
    shapes = {port.name: port.shape or () for port in inputs}
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for port in fixed.graph.input:
        for dim, size in zip(port.type.tensor_type.shape.dim, shapes.get(port.name, ()), strict=False):
            if size is not None:
                dim.dim_value = size
    del fixed.graph.value_info[:]
    return fixed


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor stored in a model: of graphs, attributes, functions, dense or sparse."""
    return (message for message in _messages(model) if isinstance(message, TensorProto))


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """Every graph of a model, those in attributes and functions included."""
    return (message for message in _messages(model) if isinstance(message, GraphProto))


def nodes(message: Message) -> Iterator[NodeProto]:
    """Every node of a model, graph or function, those of graphs in attributes included."""
    return (inner for inner in _messages(message) if isinstance(inner, NodeProto))


def _messages(message: Message) -> Iterator[Message]:
    """The message, and all in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _messages(inner)


def _same_type(found: ValueInfoProto, port: Port) -> bool:
    if found.type.HasField("sequence_type"):
        return port.dtype.startswith("seq(")
    kind = found.type.tensor_type.elem_type
    if kind == TensorProto.STRING:
        return port.dtype == "str"
    if not kind:
        return not found.type.WhichOneof("value") or found.type.HasField("tensor_type")
    try:
        return helper.tensor_dtype_to_np_dtype(kind).name == port.dtype
    except (KeyError, TypeError):
        return False


def _fits(found: ValueInfoProto, shape: Sequence[int | None] | None) -> bool:
    """Whether no size that both know differs."""
    if shape is None or not found.type.tensor_type.HasField("shape"):
        return True
    dims = found.type.tensor_type.shape.dim
    return len(dims) == len(shape) and all(
        size is None or not dim.HasField("dim_value") or dim.dim_value == size
        for dim, size in zip(dims, shape, strict=True)
    )


def _list(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown or "none"
