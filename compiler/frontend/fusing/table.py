"""Tables: a function of one 8-bit tensor, computed by ONNX Runtime for each of the 256 values."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from systolith import runtime
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import shift
from systolith.compiler.frontend.values.tensors import Dequantized, Function, Quantized
from systolith.runtime import RuntimeRefusal

__all__ = ["function_table", "node_table"]

OPSET = 17
"""Of models without a node that has one of its own."""
TYPES = {np.dtype(np.int8): TensorProto.INT8, np.dtype(np.uint8): TensorProto.UINT8}


def function_table(x: Function, scale: np.float32, zero_point: int, dtype: np.dtype) -> NDArray[np.int8]:
    """DequantizeLinear, the function, QuantizeLinear to that scale and zero point (int8 domain): int8 [256].

    Indexed by the int8 that carries the input, as an unsigned byte. Raises UnsupportedError if a result is NaN.
    """
    model = _Model(x.leaf.quantized)
    result = model.function(x)
    real = model.run(x.node, result, TensorProto.FLOAT)
    if np.isnan(real).any():
        value = int(np.argmax(np.isnan(real)).astype(np.uint8).view(np.int8)) + shift(x.leaf.quantized.dtype)
        raise x.node.unsupported(f"must give a number for every quantized input; it gives NaN for {value}")
    final = model.node("QuantizeLinear", [result, *model.parameters(scale, zero_point, dtype)])
    return _carried(model.run(x.node, final, TYPES[dtype]))


def node_table(node: Node, x: Quantized, position: int, constants: Sequence[NDArray | None]) -> NDArray[np.int8]:
    """Likewise for an operator with 8-bit input `x` at `position` of its inputs, and with an 8-bit output."""
    model = _Model(x)
    names = [model.INPUT if i == position else model.argument(values) for i, values in enumerate(constants)]
    result = model.copy(node, names)
    return _carried(model.run(node, result, None))


def _carried(values: NDArray) -> NDArray[np.int8]:
    return (values ^ np.uint8(128)).view(np.int8) if values.dtype == np.uint8 else values


class _Model:
    """A model of one input, the 256 values that `x` can have, in the order of a table."""

    INPUT = "x"

    def __init__(self, x: Quantized):
        self.x = x
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.names: dict[int, str] = {}
        self.opset = OPSET

    def function(self, x: Function | Dequantized) -> str:
        """Name of the tensor with the function's values; what two nodes share is there once."""
        key = 0 if isinstance(x, Dequantized) else id(x)
        if key not in self.names:
            if isinstance(x, Dequantized):
                array = x.quantized.array
                assert array.scale is not None and array.zero_point is not None
                parameters = self.parameters(array.scale, array.zero_point, self.x.dtype)
                self.names[key] = self.node("DequantizeLinear", [self.INPUT, *parameters])
            else:
                self.names[key] = self.copy(x.node, [self.argument(argument) for argument in x.arguments])
        return self.names[key]

    def argument(self, values: "Function | Dequantized | NDArray | None") -> str:
        """Name of the tensor that a node reads."""
        match values:
            case None:
                return ""
            case Function() | Dequantized():
                return self.function(values)
        self.constants.append(numpy_helper.from_array(values.reshape(()), f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def parameters(self, scale: np.float32, zero_point: int, dtype: np.dtype) -> list[str]:
        """Names of scale and zero point, which is given in the int8 domain."""
        return [self.argument(np.array(scale)), self.argument(np.array(zero_point + shift(dtype), dtype))]

    def node(self, op: str, inputs: list[str]) -> str:
        """Append a node; name of its output."""
        self.nodes.append(helper.make_node(op, inputs, [f"tensor_{len(self.nodes)}"]))
        return self.nodes[-1].output[0]

    def copy(self, node: Node, inputs: list[str]) -> str:
        """Append a node of the network, with other inputs; name of its output."""
        name = self.node(node.op, inputs)
        self.nodes[-1].domain = node.proto.domain
        self.nodes[-1].attribute.extend(node.proto.attribute)
        if node.proto.domain in ("", "ai.onnx"):
            self.opset = node.opset
        return name

    def run(self, node: Node, result: str, kind: int | None) -> NDArray:
        """Values of a tensor of that type (None: the type of the input), as ONNX Runtime computes them."""
        given = TYPES[self.x.dtype]
        graph = helper.make_graph(
            self.nodes,
            "table",
            [helper.make_tensor_value_info(self.INPUT, given, [256])],
            [helper.make_tensor_value_info(result, kind or given, [256])],
            self.constants,
        )
        values = np.arange(256, dtype=np.uint8)
        values = values ^ np.uint8(128) if self.x.dtype == np.uint8 else values.view(np.int8)
        try:
            return runtime.load(self._model(graph).SerializeToString()).run({self.INPUT: values})[result]
        except RuntimeRefusal as error:
            raise node.unsupported(f"ONNX Runtime refuses it: {error}") from None

    def _model(self, graph) -> ModelProto:
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets[:1]))
