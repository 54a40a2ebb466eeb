"""A model of one float operator between QuantizeLinear and DequantizeLinear, for what ONNX Runtime's quantizer leaves
in float32, takes apart, or cannot quantize."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

__all__ = ["quantized_node"]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
OLDEST = 10
"""The first opset with QuantizeLinear of any scale."""


def quantized_node(model: ModelProto, inputs: Mapping[str, NDArray], expected: Sequence[NDArray]) -> ModelProto:
    """The model with int8 activations, whose scales are those of these inputs and outputs, and int8 weights."""
    quantized = ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    (node,) = (node for node in graph.node if node.op_type != "Constant")
    others = [other for other in graph.node if other is not node]
    before, after = [], []
    for name in dict.fromkeys(node.input):
        if name in inputs and inputs[name].dtype == np.float32:
            before += _pair(graph, name, f"{name}:quantized", inputs[name])
            _rename(node.input, name, f"{name}:quantized")
    for tensor in graph.initializer:
        if node.op_type in WEIGHTED and len(node.input) > 1 and tensor.name == node.input[1]:
            values = numpy_helper.to_array(tensor)
            before.append(_weights(graph, tensor, values))
            node.input[1] = before[-1].output[0]
    for name, values in zip(list(node.output), expected, strict=True):
        if name and values.dtype == np.float32:
            _rename(node.output, name, f"{name}:real")
            after += _pair(graph, f"{name}:real", name, values)
    nodes = [*others, *before, onnx.NodeProto.FromString(node.SerializeToString()), *after]
    del graph.node[:]
    graph.node.extend(nodes)
    for opset in quantized.opset_import:
        opset.version = max(opset.version, OLDEST)
    return quantized


def _pair(graph: onnx.GraphProto, name: str, result: str, values: NDArray) -> list[onnx.NodeProto]:
    """QuantizeLinear and DequantizeLinear of a tensor that holds these values."""
    finite = values[np.isfinite(values)]
    low, high = min(0.0, float(finite.min(initial=0))), max(0.0, float(finite.max(initial=0)))
    scale = np.float32((high - low) / 255 or 1)
    zero_point = np.int8(np.clip(np.rint(-128 - low / scale), -128, 127))
    parameters = [_store(graph, f"{name}:scale", scale), _store(graph, f"{name}:zero_point", zero_point)]
    return [
        helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}:integers"]),
        helper.make_node("DequantizeLinear", [f"{name}:integers", *parameters], [result]),
    ]


def _weights(graph: onnx.GraphProto, tensor: TensorProto, values: NDArray) -> onnx.NodeProto:
    """DequantizeLinear of weights, symmetric; the tensor becomes its input."""
    scale = np.float32(np.abs(values).max(initial=0) / 127 or 1)
    integers = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
    name = f"{tensor.name}:quantized"
    tensor.CopyFrom(numpy_helper.from_array(integers, tensor.name))
    parameters = [_store(graph, f"{name}:scale", scale), _store(graph, f"{name}:zero_point", np.int8(0))]
    return helper.make_node("DequantizeLinear", [tensor.name, *parameters], [name])


def _store(graph: onnx.GraphProto, name: str, value: np.generic) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _rename(names, old: str, new: str) -> None:
    for i, name in enumerate(names):
        if name == old:
            names[i] = new
