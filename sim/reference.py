"""ONNX Runtime, the independent reference: the same ONNX file, run by its integer kernels.

What must agree bit for bit, and what cannot:

- Layers that ONNX Runtime runs as QLinearConv, QLinearMatMul or QGemm: exactly.
- Layers that it computes in float32 after dequantizing (a Relu or Clip that the zero point does not absorb, an Add it
  does not fuse): within one step, because of its own rounding. `float_operators` names them.
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

from systolith.errors import SystolithError

__all__ = ["float_operators", "run", "saturates"]

INTEGER = {
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "QuantizeLinear",
    "DequantizeLinear",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Identity",
}


def run(model: bytes, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Outputs by name. Raises SystolithError, with its first line, where ONNX Runtime refuses model or inputs."""
    try:
        session = onnxruntime.InferenceSession(model, _options(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        results = session.run(names, dict(inputs))
    except Exception as error:  # Its exceptions have no common base class.
        raise SystolithError(f"ONNX Runtime refuses the model: {' '.join(str(error).split())[:300]}") from None
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def float_operators(model: bytes) -> list[str]:
    """Operators that ONNX Runtime, after its optimizations, computes in float32: empty if all of it is integer."""
    with tempfile.TemporaryDirectory() as folder:
        options = _options()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath)
    return [node.op_type for node in optimized.graph.node if node.op_type not in INTEGER]


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


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # Errors come as exceptions.
    # Without it, QDQ models with int8 activations run in float32 on x86.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return options
