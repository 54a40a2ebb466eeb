"""ONNX Runtime, the independent reference: the same ONNX file, run by its integer kernels.

What must agree bit for bit, and what cannot:

- What ONNX Runtime runs by integer kernels (QLinearConv, QLinearMatMul, QGemm, the pools, tables such as
  QLinearSigmoid, everything that only moves values): exactly.
- What it computes in float32: within one step for each operator, because of its own rounding. That is QLinearAdd and
  QLinearMul, whose kernels add the zero point in float32 (9 and 1 of 6 million outputs differed; with scales that are
  more than 2^15 apart QLinearAdd's sums cancel, and lose whole steps: no reference there), and what it
  dequantizes first (a Relu or Clip that the zero point does not absorb, an operator it does not fuse).
  `float_operators` names them; sim/reference/layerwise.py compares operator by operator.
- On x86 processors whose 8-bit products saturate at 16 bits (before VNNI), unsigned activations: not at all;
  `saturates` tells, and golden alone is the truth there.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from systolith import runtime
from systolith.errors import SystolithError
from systolith.runtime import RuntimeRefusal, Session, Value

__all__ = ["float_nodes", "float_operators", "optimized", "run", "saturates", "session"]

MOVES = {
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Upsample",
}
"""Operators that make no new values; Resize and Upsample with mode "nearest"."""
MAKE_FLOATS = {"DequantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
"""Operators that make float32 of integers; what another than the first makes is rounded."""
MEMORY, SECONDS = 8 << 30, 600
"""Bytes and time that a model may take, loaded or run once: a loop in a file from anybody may not end."""
INEXACT = {"QLinearAdd", "QLinearAveragePool", "QLinearMul", "QLinearSoftmax", "QLinearReduceMean", "QLinearWhere"}
"""Quantized operators whose kernels round sums in float32: known to differ from exact ones now and then."""


def run(model: bytes | Session, inputs: Mapping[str, Value], level: str = "all") -> dict[str, Any]:
    """Outputs by name. `level` of optimization, of a model that is not loaded: "all"; "none" computes each node as ONNX
    has it. Raises SystolithError, with its first line, where ONNX Runtime refuses model or inputs, or takes too much
    memory or time for them."""
    try:
        loaded = runtime.load(model, level, MEMORY, SECONDS) if isinstance(model, bytes) else model
        return loaded.run(inputs, memory=MEMORY, seconds=SECONDS)
    except RuntimeRefusal as error:
        raise SystolithError(f"ONNX Runtime refuses the model: {error}") from None


def session(model: bytes, level: str = "all") -> Session:
    """The model ready to run, many times. Raises as `run`."""
    try:
        return runtime.load(model, level, MEMORY, SECONDS)
    except RuntimeRefusal as error:
        raise SystolithError(f"ONNX Runtime refuses the model: {error}") from None


def float_operators(model: bytes) -> list[str]:
    """Operators that ONNX Runtime, after its optimizations, computes in float32: empty if all of it is integer."""
    return [node.op_type for node in float_nodes(optimized(model))]


def optimized(model: bytes) -> onnx.GraphProto:
    """The graph that ONNX Runtime makes of a model and runs."""
    return onnx.load_model_from_string(runtime.optimized(model)).graph


def float_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes of an optimized graph that compute in float32, in their order."""
    floats = {port.name for port in graph.input if port.type.tensor_type.elem_type == TensorProto.FLOAT}
    found = []
    for node in graph.node:
        if node.op_type in MAKE_FLOATS:
            floats.update(node.output)
            if node.op_type != "DequantizeLinear":
                found.append(node)
        elif node.op_type in INEXACT:
            found.append(node)
        elif node.op_type not in ("QuantizeLinear", "Shape") and floats.intersection(node.input):
            floats.update(node.output)
            if not _moves(node):
                found.append(node)
    return found


def _moves(node: onnx.NodeProto) -> bool:
    modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
    return node.op_type in MOVES and (node.op_type not in ("Resize", "Upsample") or modes in ([], [b"nearest"]))


@cache
def saturates() -> bool:
    """Whether this processor's kernels saturate inside: a convolution of 255s by 127s, whose sum is known."""
    channels = 64
    scalar = {
        "x_scale": np.float32(1),
        "x_zero": np.uint8(0),
        "w_scale": np.float32(1),
        "w_zero": np.int8(0),
        "y_scale": np.float32(channels * 255),
        "y_zero": np.uint8(0),
    }
    constants = {**scalar, "w": np.full((1, channels, 1, 1), 127, np.int8)}
    names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", names, ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, channels, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 1, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    result = run(model.SerializeToString(), {"x": np.full((1, channels, 4, 4), 255, np.uint8)})
    return bool((result["y"] != 127).any())
