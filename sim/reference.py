"""ONNX Runtime, the independent reference: the same ONNX file, run by its integer kernels.

What must agree bit for bit, and what cannot:

- What ONNX Runtime runs by integer kernels (QLinearConv, QLinearMatMul, QGemm, the pools, tables such as
  QLinearSigmoid, everything that only moves values): exactly.
- What it computes in float32: within one step for each operator, because of its own rounding. That is QLinearAdd and
  QLinearMul, whose kernels add the zero point in float32 (9 and 1 of 6 million outputs differed; with scales that are
  more than 2^15 apart QLinearAdd's sums cancel, and lose whole steps: no reference there), and what it
  dequantizes first (a Relu or Clip that the zero point does not absorb, an operator it does not fuse).
  `float_operators` names them; sim/layerwise.py compares operator by operator.
- On x86 processors whose 8-bit products saturate at 16 bits (before VNNI), unsigned activations: not at all;
  `saturates` tells, and golden alone is the truth there.
"""

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from systolith.compiler.frontend.table import INEXACT_PASSES
from systolith.errors import SystolithError

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
INEXACT = {"QLinearAdd", "QLinearAveragePool", "QLinearMul", "QLinearSoftmax", "QLinearReduceMean", "QLinearWhere"}
"""Quantized operators whose kernels round sums in float32: known to differ from exact ones now and then."""


def session(model: bytes) -> onnxruntime.InferenceSession:
    """The model ready to run, many times. Raises SystolithError, with its first line, where ONNX Runtime refuses it."""
    try:
        return onnxruntime.InferenceSession(
            model, _options(), ["CPUExecutionProvider"], disabled_optimizers=INEXACT_PASSES,
            enable_fallback=0,  # A second try prints that it is one.
        )  # fmt: skip
    except Exception as error:  # Its exceptions have no common base class.
        raise _refusal(error) from None


def run(model: bytes | onnxruntime.InferenceSession, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Outputs by name. Raises SystolithError, with its first line, where ONNX Runtime refuses model or inputs."""
    ready = session(model) if isinstance(model, bytes) else model
    names = [output.name for output in ready.get_outputs()]
    try:
        results = ready.run(names, dict(inputs))
    except Exception as error:
        raise _refusal(error) from None
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def float_operators(model: bytes) -> list[str]:
    """Operators that ONNX Runtime, after its optimizations, computes in float32: empty if all of it is integer."""
    return [node.op_type for node in float_nodes(optimized(model))]


def optimized(model: bytes) -> onnx.GraphProto:
    """The graph that ONNX Runtime makes of a model and runs."""
    with tempfile.TemporaryDirectory() as folder:
        options = _options()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"], disabled_optimizers=INEXACT_PASSES)
        return onnx.load(options.optimized_model_filepath).graph


def float_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes of an optimized graph that compute in float32, in their order."""
    floats = {port.name for port in graph.input if port.type.tensor_type.elem_type == TensorProto.FLOAT}
    found = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            floats.update(node.output)
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


def _refusal(error: Exception) -> SystolithError:
    return SystolithError(f"ONNX Runtime refuses the model: {' '.join(str(error).split())[:300]}")


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # Errors come as exceptions.
    # Without it, QDQ models with int8 activations run in float32 on x86.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return options
