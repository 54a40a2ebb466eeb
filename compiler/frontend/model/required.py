"""Inputs that a node must have: ONNX Runtime reads a null pointer where one is left out."""

from collections.abc import Mapping

import onnx
from onnx import ModelProto, NodeProto

from systolith.errors import SystolithError
from systolith.stored_models import graphs

__all__ = ["check_inputs_are_there"]

OptionalInput = onnx.defs.OpSchema.FormalParameterOption.Optional


def check_inputs_are_there(model: ModelProto, where: str) -> None:
    """Raises SystolithError for an input that is left out and not optional, in any graph of the model."""
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    opsets[""] = opsets.get("", 0) or opsets.get("ai.onnx", 0)
    for node in (node for graph in graphs(model) for node in graph.node):
        missing = next((i for i, name in enumerate(node.input) if not name and not _optional(node, i, opsets)), None)
        if missing is not None:
            label = f"{where}: {node.op_type} '{node.name or ', '.join(node.output)}'"
            raise SystolithError(f"{label}: input {missing} must be there; its name is empty")


def _optional(node: NodeProto, index: int, opsets: Mapping[str, int]) -> bool:
    """Whether an input may be left out; also of what ONNX does not know."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        formal = onnx.defs.get_schema(node.op_type, opsets.get(domain, 0), domain).inputs
    except (onnx.defs.SchemaError, TypeError):  # No such operator; no such version.
        return True
    # Inputs beyond the last are more of that, which is variadic then.
    return not formal or formal[min(index, len(formal) - 1)].option == OptionalInput
