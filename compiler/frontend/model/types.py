"""Types and shapes of all tensors of a model, by ONNX Runtime: it knows every operator that a host part may have.

Nothing is run for it: a type or shape found here holds for all inputs.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, TypeProto, ValueInfoProto, helper

from systolith import runtime
from systolith.errors import SystolithError
from systolith.runtime import ELEMENTS, RuntimeRefusal

__all__ = ["Shape", "TensorType", "check_output", "port", "stored_types", "tensor_types"]

Shape = tuple[int | None, ...]
"""A dimension that is not known before the network runs is None."""
SEQUENCE = "seq(tensor("
MEMORY = 1 << 30
"""Bytes that inference may take beyond four times the model's own."""
SECONDS, BYTES_A_SECOND = 10, 10_000_000
"""Time that it may take: so many seconds, and one more for so many bytes."""


@dataclass(frozen=True)
class TensorType:
    """Type of a tensor, or of a sequence of tensors: `kind` as ONNX Runtime has it, "tensor(int8)" or
    "seq(tensor(float))". `shape` is None where even the rank is not known, as for sequences."""

    kind: str
    shape: Shape | None

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type; for a sequence, ONNX Runtime's name of it."""
        if self.kind.startswith(SEQUENCE):
            return self.kind
        return "str" if self.element == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(self.element).name

    @property
    def element(self) -> int:
        """ONNX's element type."""
        return ELEMENTS[self.kind.removeprefix("seq(").removeprefix("tensor(").rstrip(")")]

    @property
    def fixed(self) -> tuple[int, ...] | None:
        """The shape, if all of it is known."""
        if self.shape is None:
            return None
        known = tuple(size for size in self.shape if size is not None)
        return known if len(known) == len(self.shape) else None

    @property
    def proto(self) -> TypeProto:
        """Of an input or output of a model."""
        if self.kind.startswith(SEQUENCE):
            return helper.make_sequence_type_proto(helper.make_tensor_type_proto(self.element, None))
        return helper.make_tensor_type_proto(self.element, self.shape)


def tensor_types(model: ModelProto, names: list[str], where: str) -> dict[str, TensorType]:
    """Types of the tensors `names`; those that NumPy has not (bfloat16, maps, optionals) are left out.

    Raises SystolithError where ONNX Runtime refuses the model, or ends or takes too long with it.
    """
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(ValueInfoProto(name=name) for name in names)
    found = {port.name: port for port in _loaded(probe.SerializeToString(), where).outputs}
    kept = {
        name: port
        for name, port in found.items()
        if port.kind.removeprefix("seq(").removeprefix("tensor(").rstrip(")") in ELEMENTS
        and port.kind.startswith(("tensor(", SEQUENCE))
    }
    scalars = _scalars(model) if any(not port.shape for port in kept.values()) else set()
    return {name: TensorType(port.kind, _shape(port, scalars)) for name, port in kept.items()}


def stored_types(model: ModelProto) -> dict[str, TensorType]:
    """Types of the initializers."""
    kinds: dict[int, str] = {element: f"tensor({name})" for name, element in ELEMENTS.items()}
    stored = [tensor for tensor in model.graph.initializer if tensor.data_type in kinds]
    return {tensor.name: TensorType(kinds[tensor.data_type], tuple(tensor.dims)) for tensor in stored}


def _loaded(model: bytes, where: str) -> runtime.Session:
    """The model in ONNX Runtime, constants folded, so that more shapes are known; or not, where that is what it
    refuses."""
    seconds = SECONDS + len(model) / BYTES_A_SECOND
    try:
        try:
            return runtime.load(model, "basic", MEMORY + 4 * len(model), seconds)
        except RuntimeRefusal:
            return runtime.load(model, "none", MEMORY + 4 * len(model), seconds)
    except RuntimeRefusal as error:
        raise SystolithError(f"{where}: ONNX Runtime refuses the model: {error}") from None


def _shape(port: runtime.Port, scalars: set[str]) -> Shape | None:
    """ONNX Runtime has no dimensions for a scalar, and none where it knows no rank."""
    if not port.kind.startswith("tensor(") or (not port.shape and port.name not in scalars):
        return None
    return tuple(size if isinstance(size, int) and size >= 0 else None for size in port.shape)


def _scalars(model: ModelProto) -> set[str]:
    """Tensors that are scalars, as ONNX infers it."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # What it refuses here, ONNX Runtime has taken; its exceptions have no common base class.
        return set()
    return {port.name for port in (*graph.input, *graph.value_info, *graph.output)
            if port.type.tensor_type.HasField("shape") and not port.type.tensor_type.shape.dim}  # fmt: skip


def check_output(port: ValueInfoProto, dtype: str, where: str) -> None:
    """Raises SystolithError if the model says of an output that it is of another type than `dtype`, that of its
    values."""
    declared = port.type.tensor_type.elem_type
    if declared not in (TensorProto.UNDEFINED, helper.np_dtype_to_tensor_dtype(np.dtype(dtype))):
        names: dict[int, str] = {number: name.lower() for name, number in TensorProto.DataType.items()}
        found = names.get(declared, declared)
        raise SystolithError(f"{where}: output '{port.name}' must be {dtype}, as it is computed, not {found}")


def port(name: str, kind: TensorType) -> ValueInfoProto:
    """A tensor as an input or output of a model."""
    return helper.make_value_info(name, kind.proto)
