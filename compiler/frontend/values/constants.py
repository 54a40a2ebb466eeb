"""Constant folding: a node with only constant inputs becomes a constant, and so does the shape of a tensor."""

from math import prod

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, helper, numpy_helper

from systolith import runtime
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.tensors import Constant, DequantizedConstant, Tensor
from systolith.runtime import ELEMENTS, RuntimeRefusal

__all__ = ["fold", "is_random", "shape", "size"]

OPSET = 17
"""Of a node of another domain."""
MEMORY, SECONDS = 1 << 30, 60
"""What computing one may take."""
FOLDED, LARGEST = 1 << 24, 1 << 26
"""Elements that a folded constant has fewer of, and that one for the host has; more only if there are as many in what
it is made from."""
KEPT = ("QuantizeLinear", "DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""What knows constants by itself, and keeps dequantized ones as the integers they are."""
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
"""Operators that draw random numbers; Dropout may, in training mode."""


def is_random(node: NodeProto) -> bool:
    """Whether a node may draw random numbers, and so makes no constant of constants."""
    return node.op_type in RANDOM or (node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2]))


def fold(node: Node, inputs: list[Tensor | None]) -> list[Tensor] | None:
    """The outputs of the node if they are constants, else None."""
    if node.op in KEPT or is_random(node.proto):
        return None
    given = [x for x in inputs if x is not None]
    if not given or not all(isinstance(x, Constant | DequantizedConstant) for x in given):
        return None
    if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.proto.attribute):
        return None
    arrays = [_values(x) if isinstance(x, Constant | DequantizedConstant) else None for x in inputs]
    model = _model(node, arrays)
    if node.proto.domain in ("", "ai.onnx"):
        _check_size(node, model)
    return [Constant(y) for y in _computed(node, model)]


def _computed(node: Node, model: onnx.ModelProto) -> list[np.ndarray]:
    """What ONNX Runtime makes of the node. Raises UnsupportedError if it does not know the operator for these types, or
    if what comes out is no array of numbers."""
    try:
        session = runtime.load(model.SerializeToString(), "none")
    except RuntimeRefusal as error:
        raise node.unsupported(f"constants cannot be computed: {error}") from None
    for port in session.outputs:
        element = port.kind.removeprefix("tensor(").rstrip(")")
        if port.kind.startswith("tensor(") and element not in ELEMENTS:  # Of float8, it gives the bytes.
            raise node.unsupported(f"outputs must be of types that NumPy has, not {element}")
    try:
        results = session.run({}, memory=MEMORY, seconds=SECONDS)
    except RuntimeRefusal as error:
        raise node.error(f"constants cannot be computed: {error}") from None
    arrays = [results[name] if name else np.zeros(()) for name in node.proto.output]
    if not all(isinstance(y, np.ndarray) and y.dtype != object for y in arrays):
        raise node.unsupported("outputs must be tensors of numbers")
    return arrays


def shape(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Shape, or a part of it: a constant, as the sizes of all tensors are known."""
    values = node.attributes(start=0, end=None) if node.opset >= 15 else {"start": 0, "end": None}
    if inputs[0] is None:
        raise node.error("input 0 must be there")
    return Constant(np.array(inputs[0].shape[values["start"] : values["end"]], np.int64))


def size(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Size: the number of elements."""
    node.attributes()
    if inputs[0] is None:
        raise node.error("input 0 must be there")
    return Constant(np.array(prod(inputs[0].shape), np.int64))


def _values(tensor: Constant | DequantizedConstant) -> np.ndarray:
    return tensor.values if isinstance(tensor, Constant) else tensor.real


def _model(node: Node, arrays: list[np.ndarray | None]) -> onnx.ModelProto:
    """A model of the node alone, its inputs as initializers: by names that are longer than its outputs'."""
    prefix = max(node.proto.output, key=len) + "_input_"
    names = ["" if array is None else f"{prefix}{i}" for i, array in enumerate(arrays)]
    stored = [numpy_helper.from_array(array, name) for name, array in zip(names, arrays, strict=True)
              if array is not None]  # fmt: skip
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    del proto.input[:]
    proto.input.extend(names)
    outputs = [onnx.ValueInfoProto(name=name) for name in node.proto.output if name]
    graph = helper.make_graph([proto], "constants", [], outputs, stored)
    opsets = [helper.make_opsetid("", node.opset)]
    if node.proto.domain not in ("", "ai.onnx"):
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(node.proto.domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets[:1]))


def _check_size(node: Node, model: onnx.ModelProto) -> None:
    """Raises UnsupportedError for a large constant, which the host computes when it runs, and SystolithError for one
    that would not fit in memory, as a ConstantOfShape of a damaged file."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)
    except Exception as error:  # As above.
        reason = " ".join(str(error).replace("[ShapeInferenceError]", "").split())
        raise node.error(f"constants cannot be computed: {reason[:200]}") from None
    known = sum(prod(tensor.dims) for tensor in model.graph.initializer) + 1
    for port in inferred.graph.output:
        sizes = [dim.dim_value for dim in port.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        for largest, refused in ((max(LARGEST, known), node.error), (max(FOLDED, known), node.unsupported)):
            if prod(sizes) >= largest:
                raise refused(f"a constant must have fewer than {largest} elements, not shape {tuple(sizes)}")
