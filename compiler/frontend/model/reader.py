"""Reader of ONNX files, the first step of the front end. The model it gives is complete, checked and self-contained."""

import os
import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TypeVar

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from systolith.compiler.frontend.model.dense import make_dense
from systolith.compiler.frontend.model.functions import inline_functions
from systolith.compiler.frontend.model.names import keep_names_apart
from systolith.compiler.frontend.model.open_dims import with_open_dims
from systolith.compiler.frontend.model.required import check_inputs_are_there
from systolith.compiler.frontend.model.sort import sort_nodes
from systolith.compiler.frontend.model.wide_ports import make_ports_wide
from systolith.errors import SystolithError
from systolith.stored_models import DOMAINS, check_onnx, check_text, graphs, nodes, tensors

__all__ = ["OLDEST_OPSET", "check_types", "parse_file", "read_model"]

Result = TypeVar("Result")
OLDEST_OPSET = 10
LONGEST_ELEMENT = 16
"""Bytes of an element of external data, at most."""


def read_model(source: Path | bytes, where: str | None = None, oldest: int = OLDEST_OPSET) -> ModelProto:
    """The model of a file or of its bytes, as the front end takes it. Raises SystolithError, which starts with `where`.

    `oldest` is the first opset that is taken.
    """
    where = where or (str(source) if isinstance(source, Path) else "model")
    model = with_open_dims(parse_file(source, where))
    if not model.ir_version or not (model.graph.node or model.graph.output):
        raise SystolithError(
            f"{where}: must be an ONNX model with at least one node; found none (is this file ONNX, and whole?)"
        )
    if not model.graph.output:
        raise SystolithError(f"{where}: graph '{model.graph.name}' must have at least one output; it has none")
    _check_opset(model, where, oldest)
    if model.functions:
        model = _refuse_failure(where, lambda: inline_functions(model, where))
    _check_domains(model, where)
    _use_plain_names(model)
    make_dense(model, where)
    sort_nodes(model, where)
    _forget_inferred(model)
    _name_outputs_once(model.graph)
    for graph in graphs(model):
        _name_nodes_once(graph)
    check_inputs_are_there(model, where)
    check_onnx(model, f"{where}:")
    make_ports_wide(model)
    keep_names_apart(model)
    return model


def parse_file(source: Path | bytes, where: str) -> ModelProto:
    """The model of a file or of its bytes as it is, with its external data. Raises SystolithError, which starts with
    `where`.

    External data must lie in the model's folder; bytes alone have no folder, so they may not have any.
    """
    folder = None
    if isinstance(source, Path):
        folder = source.parent
        try:
            source = source.read_bytes()
        except OSError as error:
            raise SystolithError(f"{where}: cannot be read: {error.strerror}") from None
    if not isinstance(source, bytes):
        raise SystolithError(
            f"{where}: must be a pathlib.Path or the bytes of an ONNX model, not {type(source).__name__}"
        )
    if not source:
        raise SystolithError(f"{where}: must be an ONNX model, not an empty file")
    try:
        model = onnx.load_model_from_string(source)
    except (DecodeError, RuntimeError, UnicodeDecodeError):
        raise SystolithError(
            f"{where}: must be an ONNX model; this is no protocol buffer, or a truncated one ({len(source)} bytes)"
        ) from None
    check_text(model, where)
    _load_external_data(model, folder, where)
    return model


def _check_opset(model: ModelProto, where: str, oldest: int) -> None:
    newest = onnx.defs.onnx_opset_version()
    versions = [opset.version for opset in model.opset_import if opset.domain in DOMAINS[:2]]
    if not versions:
        raise SystolithError(f"{where}: must import an ONNX opset from {oldest} to {newest}; it imports none")
    if not oldest <= max(versions) <= newest:
        raise SystolithError(f"{where}: opset must be from {oldest} to {newest}, not {max(versions)}")


def _check_domains(model: ModelProto, where: str) -> None:
    imported = {opset.domain or "ai.onnx" for opset in model.opset_import if opset.version > 0}
    for node in model.graph.node:
        label = f"{where}: {node.op_type} '{node.name or ', '.join(node.output)}'"
        if node.domain not in DOMAINS:
            known = ", ".join(filter(None, DOMAINS))
            raise SystolithError(f"{label}: its domain must be one of {known}, or none, not '{node.domain}'")
        if (node.domain or "ai.onnx") not in imported:
            raise SystolithError(f"{label}: the file must import an opset of its domain '{node.domain or 'ai.onnx'}'")


def _use_plain_names(model: ModelProto) -> None:
    """ONNX's own domain has two names, of which its checker knows one; and it wants a graph to have a name."""
    for item in (*model.opset_import, *nodes(model)):
        if item.domain == "ai.onnx":
            item.domain = ""
    model.graph.name = model.graph.name or "graph"


def _forget_inferred(model: ModelProto) -> None:
    """Drop what a tool has inferred, which may be out of date: types of tensors inside, and shapes of outputs."""
    for graph in graphs(model):
        del graph.value_info[:]
    for port in model.graph.output:
        if port.type.HasField("tensor_type"):
            port.type.tensor_type.ClearField("shape")


def _name_outputs_once(graph: GraphProto) -> None:
    """ONNX lets a graph have an output several times; by name it is one."""
    ports = {port.name: port for port in reversed(graph.output)}
    if len(ports) < len(graph.output):
        once = [ports[name] for name in dict.fromkeys(port.name for port in graph.output)]
        del graph.output[:]
        graph.output.extend(once)


def _name_nodes_once(graph: GraphProto) -> None:
    """ONNX lets nodes share a name, ONNX Runtime does not: the first one keeps it."""
    known: set[str] = set()
    for node in graph.node:
        if node.name in known:
            node.ClearField("name")
        known.add(node.name)


def check_types(model: ModelProto, where: str) -> None:
    """Raises SystolithError if types or shapes are not as ONNX infers them: a net under the front end's own checks."""
    _refuse_failure(where, lambda: onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True))


def _refuse_failure(where: str, check: Callable[[], Result]) -> Result:
    try:
        return check()
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
        TypeError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).replace("[ShapeInferenceError]", "").split())
        raise SystolithError(f"{where}: is not valid ONNX: {reason[:400]}") from None


def _load_external_data(model: ModelProto, folder: Path | None, where: str) -> None:
    for tensor in tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        subject = f"{where}: initializer '{tensor.name}': external data '{location}'"
        if folder is None:
            raise SystolithError(f"{subject} needs the model's folder; give the model as a file")
        root = folder.resolve()
        path = _inside(root, location)
        if path is None:
            raise SystolithError(f"{subject} must lie in the model's folder")
        if not os.path.isfile(path):  # Path.is_file raises for names that are too long.
            raise SystolithError(f"{subject} must be a file beside the model; there is none")
        _check_extent(tensor, path, subject)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keys of external data that mean nothing.
                load_external_data_for_tensor(tensor, str(root))
        except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
            raise SystolithError(f"{subject} cannot be read: {' '.join(str(error).split())[:200]}") from None
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _check_extent(tensor: TensorProto, path: Path, subject: str) -> None:
    """Raises SystolithError for more bytes than the tensor can need; onnx refuses those that are not in the file."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    length = given.get("length", "")
    count = int(length) if length.isdecimal() and len(length) < 20 else path.stat().st_size
    most = LONGEST_ELEMENT * prod(tensor.dims)
    if count > most and ("length" not in given or length.isdecimal()):
        raise SystolithError(f"{subject} must be at most {most} bytes for dimensions {list(tensor.dims)}, not {count}")


def _inside(root: Path, location: str) -> Path | None:
    """The file at `location`, if that is a path within `root`."""
    try:
        path = (root / location).resolve()
    except (OSError, RuntimeError, ValueError):  # A loop of links, a NUL.
        return None
    return path if location and path.is_relative_to(root) else None
