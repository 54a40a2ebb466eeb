"""Writes small ONNX models node by node: for random layers, tests and demos."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

__all__ = ["ModelWriter", "port"]

OLDEST_IR = 7  # The oldest that onnx.checker takes together with opset 10 and initializers that are not inputs.


@dataclass
class ModelWriter:
    """Collects the nodes, constants and ports of a model; methods return the names of tensors."""

    opset: int = 17
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[ValueInfoProto] = field(default_factory=list)

    def constant(self, values: ArrayLike, stem: str = "constant", as_node: bool = False) -> str:
        """A constant, as initializer or as Constant node."""
        name = f"{stem}_{len(self.initializers) + len(self.nodes)}"
        tensor = numpy_helper.from_array(np.asarray(values), name)
        if as_node:
            self.nodes.append(helper.make_node("Constant", [], [name], f"{name}_node", value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def node(self, op: str, inputs: Sequence[str], name: str | None = None, domain: str = "", **attributes: Any) -> str:
        """A node with one output."""
        name = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, domain=domain, **attributes))
        return f"{name}_out"

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> str:
        """A network input; a string in the shape is a symbolic dimension."""
        self.inputs.append(port(name, dtype, shape))
        return name

    def output(self, name: str, dtype: DTypeLike, shape: Sequence[int | str] | None) -> str:
        """Make a tensor a network output; of unknown shape if that is None."""
        self.outputs.append(port(name, dtype, shape))
        return name

    def model(self, name: str = "layer") -> bytes:
        """The model, serialized."""
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        version = max(OLDEST_IR, helper.find_min_ir_version_for(opsets[:1]))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=version, producer_name="systolith")
        return model.SerializeToString()

    def quantize(self, x: str, scale: ArrayLike, zero_point: ArrayLike, **attributes: Any) -> str:
        """QuantizeLinear; the zero point's type is the output's."""
        return self.node("QuantizeLinear", [x, *self._pair(scale, zero_point)], **attributes)

    def dequantize(self, x: str, scale: ArrayLike, zero_point: ArrayLike, **attributes: Any) -> str:
        """DequantizeLinear; the zero point's type is the input's."""
        return self.node("DequantizeLinear", [x, *self._pair(scale, zero_point)], **attributes)

    def _pair(self, scale: ArrayLike, zero_point: ArrayLike) -> list[str]:
        return [self.constant(np.asarray(scale, np.float32), "scale"), self.constant(zero_point, "zero_point")]


def port(name: str, dtype: DTypeLike, shape: Sequence[int | str] | None) -> ValueInfoProto:
    """A tensor as input or output of a graph; of any shape, of any rank, if `shape` is None."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
