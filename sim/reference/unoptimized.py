"""ONNX Runtime without any optimization: each node by the kernel of its own operator, as ONNX defines it.

Its fused kernels are faster, and now and then compute something else. This is the reference for what they may not
change.
"""

from collections.abc import Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from systolith.errors import SystolithError

__all__ = ["RefusedError", "run", "session"]


class RefusedError(SystolithError):
    """ONNX Runtime does not take a model, or has no values for these inputs."""


def session(model: bytes) -> onnxruntime.InferenceSession:
    """The model ready to run. Raises RefusedError where ONNX Runtime refuses it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # Errors come as exceptions.
    try:
        return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # Its exceptions have no common base class.
        raise _refusal(error) from None


def run(model: bytes, inputs: Mapping[str, NDArray]) -> list[NDArray]:
    """Outputs in the model's order. Raises RefusedError where ONNX Runtime refuses model or inputs."""
    ready = session(model)
    try:
        return [np.asarray(values) for values in ready.run(None, dict(inputs))]
    except Exception as error:
        raise _refusal(error) from None


def _refusal(error: Exception) -> RefusedError:
    return RefusedError(f"ONNX Runtime, unoptimized, refuses: {' '.join(str(error).split())[:300]}")
