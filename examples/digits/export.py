"""A trained network as ONNX: one node for each step, the batch left open."""

from typing import Any

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from systolith.examples.digits.network import (
    Average,
    Convolution,
    Depthwise,
    Layer,
    Linear,
    MaxPool,
    Network,
    Residual,
)

__all__ = ["export"]


def export(network: Network, name: str) -> onnx.ModelProto:
    """The model, float32: `image` [batch, 1, 8, 8] to `logits` [batch, 10]."""
    writer = _Writer()
    value = "image"
    for layer in network.layers:
        value = writer.layer(layer, value)
    writer.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        writer.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        writer.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class _Writer:
    """Nodes and initializers as they come; `convolutions` counts those that have a number in their name."""

    def __init__(self):
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.convolutions = 0

    def layer(self, layer: Layer, value: str) -> str:
        """Write a layer that reads `value`; the name of what it makes."""
        match layer:
            case Convolution() | Depthwise():
                return self._convolution(layer, value)
            case MaxPool():
                return self._node("MaxPool", [value], "pool", kernel_shape=[2, 2], strides=[2, 2])
            case Average():
                return self._node("GlobalAveragePool", [value], "average")
            case Residual():
                inner = value
                for part in layer.layers:
                    inner = self.layer(part, inner)
                return self._node("Relu", [self._node("Add", [value, inner], "add")], "add.relu")
            case Linear():
                flat = self._node("Flatten", [value], "flatten")
                return self._node("Gemm", [flat, *self._store("classes", layer)], "classes", transB=1)

    def _convolution(self, layer: Convolution | Depthwise, value: str) -> str:
        self.convolutions += 1
        name = f"conv{self.convolutions}"
        channels, kernel = len(layer.weights), layer.weights.shape[-1]
        attributes: dict[str, Any] = {"kernel_shape": [kernel, kernel], "pads": [kernel // 2] * 4}
        if isinstance(layer, Depthwise):
            attributes["group"] = channels
        else:
            attributes["strides"] = [layer.stride, layer.stride]
        total = self._node("Conv", [value, *self._store(name, layer)], name, **attributes)
        if isinstance(layer, Convolution) and not layer.relu:
            return total
        return self._node("Relu", [total], f"{name}.relu")

    def _store(self, name: str, layer: Convolution | Depthwise | Linear) -> list[str]:
        named = {f"{name}.weight": layer.weights, f"{name}.bias": layer.bias}
        self.initializers += [numpy_helper.from_array(values, key) for key, values in named.items()]
        return list(named)

    def _node(self, op: str, inputs: list[str], name: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name, **attributes))
        return f"{name}.out"
