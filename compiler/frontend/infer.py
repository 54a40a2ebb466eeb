"""Types and shapes of all tensors of a model, by ONNX Runtime: it knows every operator that a host part may have."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from systolith.errors import SystolithError

__all__ = ["TensorType", "check_output", "port", "tensor_types"]

TYPES = {
    "float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE, "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
}  # fmt: skip
"""Names in ONNX Runtime's "tensor(...)" and the types of ONNX."""


@dataclass(frozen=True)
class TensorType:
    """Element type and shape of a tensor."""

    element: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""
        return helper.tensor_dtype_to_np_dtype(self.element).name


def tensor_types(model: ModelProto, names: list[str], where: str) -> dict[str, TensorType]:
    """Types of the tensors `names`, for a model whose inputs have fixed shapes; those that are no tensors are left out.

    Shapes that cannot be inferred are found by running the model on zeros. Raises SystolithError where ONNX Runtime
    refuses the model.
    """
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4  # Errors come as exceptions.
    try:
        session = onnxruntime.InferenceSession(
            probe.SerializeToString(), options, providers=["CPUExecutionProvider"],
            enable_fallback=0,  # A second try prints that it is one.
        )  # fmt: skip
        found = {port.name: (port.type, port.shape) for port in session.get_outputs()}
        unknown = _unknown(model, {name: shape for name, (kind, shape) in found.items() if kind.startswith("tensor(")})
        zeros = {port.name: np.zeros(shape_of(port), dtype_of(port)) for port in model.graph.input} if unknown else {}
        shapes = dict(zip(unknown, session.run(unknown, zeros), strict=True)) if unknown else {}
    except Exception as error:  # Its exceptions have no common base class.
        reason = " ".join(str(error).split())[:300]
        raise SystolithError(f"{where}: ONNX Runtime refuses the model: {reason}") from None
    types = {}
    for name, (kind, shape) in found.items():
        element = TYPES.get(kind.removeprefix("tensor(").removesuffix(")"))
        if element is not None:
            types[name] = TensorType(element, np.asarray(shapes[name]).shape if name in shapes else tuple(shape))
    return types


def _unknown(model: ModelProto, shapes: Mapping[str, list]) -> list[str]:
    """Those whose shape is not known. ONNX Runtime has no dimensions for a scalar, and none where it knows no rank."""
    scalars: set[str] = set()
    if any(not shape for shape in shapes.values()):
        graph = onnx.shape_inference.infer_shapes(model).graph
        scalars = {port.name for port in (*graph.input, *graph.value_info, *graph.output)
                   if port.type.tensor_type.HasField("shape") and not port.type.tensor_type.shape.dim}  # fmt: skip
    return [
        name for name, shape in shapes.items()
        if not all(isinstance(dim, int) for dim in shape) or (not shape and name not in scalars)
    ]  # fmt: skip


def check_output(port: ValueInfoProto, dtype: str, where: str) -> None:
    """Raises SystolithError if the model says of an output that it is of another type than `dtype`, that of its
    values."""
    declared = port.type.tensor_type.elem_type
    if declared not in (TensorProto.UNDEFINED, helper.np_dtype_to_tensor_dtype(np.dtype(dtype))):
        names: dict[int, str] = {number: name.lower() for name, number in TensorProto.DataType.items()}
        found = names.get(declared, declared)
        raise SystolithError(f"{where}: output '{port.name}' must be {dtype}, as it is computed, not {found}")


def shape_of(port: ValueInfoProto) -> tuple[int, ...]:
    """The shape of an input, whose dimensions are all fixed."""
    return tuple(dim.dim_value for dim in port.type.tensor_type.shape.dim)


def dtype_of(port: ValueInfoProto) -> np.dtype:
    """The element type of an input."""
    return onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)


def port(name: str, kind: TensorType) -> ValueInfoProto:
    """A tensor as an input or output of a model."""
    return helper.make_tensor_value_info(name, kind.element, kind.shape)
