"""ONNX to Graph: the front end's walk over the nodes. Every node and attribute is either honoured or refused by name.

Each node turns what is known of its inputs (`onnx_tensors`) into what is known of its output; QuantizeLinear and the
quantized operators append layers. Nodes that no output needs are skipped.
"""

from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from systolith.compiler.ir import Conv, Graph, Port, Value, verify
from systolith.compiler.onnx_activation import clip, relu
from systolith.compiler.onnx_bias import add
from systolith.compiler.onnx_file import check_types, read_model
from systolith.compiler.onnx_layers import conv, gemm, matmul, qgemm, qlinear_conv, qlinear_matmul
from systolith.compiler.onnx_node import Node
from systolith.compiler.onnx_quantize import dequantize, quantize
from systolith.compiler.onnx_shapes import flatten, identity, reshape, squeeze, transpose, unsqueeze
from systolith.compiler.onnx_tensors import Array, Constant, FloatInput, Quantized, Real, Tensor, describe
from systolith.compiler.onnx_views import View, merge, strided
from systolith.compiler.passes.accumulators import prove_accumulators
from systolith.compiler.passes.dead_layers import remove_dead_layers
from systolith.errors import SystolithError

__all__ = ["OPERATORS", "import_model"]

Layers = list[tuple[Conv, Value]]
PASSES: tuple[Callable[[Graph], Graph], ...] = (verify, remove_dead_layers, prove_accumulators, verify)

PLAIN = {
    "Add": add,
    "Clip": clip,
    "Conv": conv,
    "DequantizeLinear": dequantize,
    "Flatten": flatten,
    "Gemm": gemm,
    "Identity": identity,
    "MatMul": matmul,
    "Relu": relu,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
LAYERS = {"QGemm": qgemm, "QLinearConv": qlinear_conv, "QLinearMatMul": qlinear_matmul, "QuantizeLinear": quantize}
DOMAINS = {"": ("", "ai.onnx"), "com.microsoft": ("QGemm", "QuantizeLinear", "DequantizeLinear")}
OPERATORS = tuple(sorted([*PLAIN, *LAYERS, "Constant"]))
"""Operators the front end accepts; QGemm is of domain com.microsoft."""


def import_model(source: Path | bytes, where: str | None = None, batch: int = 1) -> Graph:
    """The network in an ONNX file, or in its bytes.

    `where` names the source in errors. A symbolic first dimension of an input becomes `batch`. Raises SystolithError in
    one line for anything that is not ONNX or that the accelerator cannot run exactly.
    """
    where = where or (str(source) if isinstance(source, Path) else "model")
    if batch < 1:
        raise SystolithError(f"{where}: batch must be at least 1, not {batch}")
    model = read_model(source, where)
    walk = _Walk(model, where, batch)
    walk.run()
    graph = walk.graph()
    check_types(model, where)
    for function in PASSES:
        try:
            graph = function(graph)
        except SystolithError as error:
            raise SystolithError(f"{where}: {error}") from None
    return graph


class _Walk:
    """One walk over the nodes of a model: tensors by name, and the layers found."""

    def __init__(self, model: ModelProto, where: str, batch: int):
        self.model, self.where, self.batch = model, where, batch
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        self.tensors: dict[str, Tensor] = {}
        self.inputs: dict[str, FloatInput | Quantized] = {}
        self.layers: Layers = []
        self.names: set[str] = set()
        self.notes: list[str] = []

    def run(self) -> None:
        """Visit everything that the outputs need."""
        if self.model.graph.sparse_initializer:
            name = self.model.graph.sparse_initializer[0].values.name
            raise SystolithError(f"{self.where}: initializer '{name}' must be dense, not sparse")
        for initializer in self.model.graph.initializer:
            self.tensors[initializer.name] = _stored(initializer, f"{self.where}: initializer '{initializer.name}'")
        for port in self.model.graph.input:
            if port.name not in self.tensors:
                self.tensors[port.name] = self.inputs[port.name] = self._input(port)
        for proto in self._needed():
            self.tensors[proto.output[0]] = self._visit(proto)

    def graph(self) -> Graph:
        """Layers and ports of what was visited."""
        outputs = tuple(self._output_port(port) for port in self.model.graph.output)
        inputs = tuple(self._input_port(name, x) for name, x in self.inputs.items())
        values = {x.array.name: x.array.value() for x in self.inputs.values()}
        values |= {value.name: value for _, value in self.layers}
        name = self.model.graph.name or Path(self.where).stem
        return Graph(name, values, tuple(layer for layer, _ in self.layers), inputs, outputs, tuple(self.notes))

    def _needed(self) -> list[NodeProto]:
        """Nodes that some output depends on, in the file's order."""
        wanted = {port.name for port in self.model.graph.output}
        needed = []
        for node in reversed(self.model.graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                needed.append(node)
            else:
                self.notes.append(f"{node.op_type} '{node.name or ', '.join(node.output)}' is needed by no output")
        return needed[::-1]

    def _visit(self, proto: NodeProto) -> Tensor:
        domain = "" if proto.domain in DOMAINS[""] else proto.domain
        node = Node(proto, self.where, self.opsets.get(domain, 0) or self.opsets.get("ai.onnx", 0))
        if node.name in self.names:
            node.name = proto.output[0]  # Names of nodes need not be unique; those of tensors are.
        self.names.add(node.name)
        known = proto.op_type in OPERATORS and (proto.op_type == "QGemm") <= (domain == "com.microsoft")
        if not known or (domain and proto.op_type not in DOMAINS.get(domain, ())):
            named = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
            raise node.error(f"operator {named} is not supported (supported: {', '.join(OPERATORS)})")
        if len(proto.output) != 1:
            raise node.error(f"must have one output, not {len(proto.output)}")
        inputs = [self.tensors[name] if name else None for name in proto.input]
        if proto.op_type == "Constant":
            return _constant(node)
        if proto.op_type in LAYERS:
            return LAYERS[proto.op_type](node, inputs, self.layers)
        return PLAIN[proto.op_type](node, inputs)

    def _input(self, port: ValueInfoProto) -> FloatInput | Quantized:
        dtype = _element_type(port, f"{self.where}: input '{port.name}'")
        array = Array(port.name, self._shape(port))
        if dtype == np.float32:
            return FloatInput(array, strided(array.shape))
        array.dtype = dtype
        return Quantized(array, strided(array.shape), dtype)

    def _shape(self, port: ValueInfoProto) -> tuple[int, ...]:
        if not port.type.tensor_type.HasField("shape"):
            raise SystolithError(f"{self.where}: input '{port.name}' must have a shape; the file gives none")
        shape = []
        for i, dim in enumerate(port.type.tensor_type.shape.dim):
            size = dim.dim_value if dim.HasField("dim_value") else 0
            if i == 0 and not dim.HasField("dim_value"):
                size = self.batch
            elif i == 0 and self.batch not in (1, size):
                raise SystolithError(
                    f"{self.where}: input '{port.name}' has batch {size} fixed in the file; "
                    f"batch must be that, not {self.batch}"
                )
            if size < 1:
                raise SystolithError(
                    f"{self.where}: input '{port.name}' must have a fixed size in dimension {i} "
                    f"(only the first, the batch, may be symbolic), not {dim.dim_param or size!r}"
                )
            shape.append(size)
        return tuple(shape)

    def _input_port(self, name: str, x: FloatInput | Quantized) -> Port:
        array = x.array
        if array.roles is None or array.scale is None or array.dtype is None:
            raise SystolithError(f"{self.where}: input '{name}' must be read by a layer; none of them reads it")
        order: list[int] = []
        axes = [merge(axis) for axis in x.view.axes]
        for role in array.roles:
            mine = [i for i, axis in enumerate(axes) if axis and role.stride <= axis[0].stride < role.end]
            if prod(x.shape[i] for i in mine) != role.size:
                raise SystolithError(
                    f"{self.where}: input '{name}' of shape {x.shape} must have channels, height and "
                    "width in axes of their own; the Reshape behind it splits one"
                )
            order += mine
        return Port(
            name,
            x.shape,
            "float32" if isinstance(x, FloatInput) else array.dtype.name,
            array.name,
            _with_ones(order, x.shape),
            array.dtype.name,
        )

    def _output_port(self, port: ValueInfoProto) -> Port:
        x = self.tensors.get(port.name)
        label = f"{self.where}: output '{port.name}'"
        if not isinstance(x, Quantized | Real):
            raise SystolithError(f"{label} must be an 8-bit tensor or its DequantizeLinear, not {describe(x)}")
        quantized = x.quantized if isinstance(x, Real) else x
        if all(quantized.array.name != value.name for _, value in self.layers):
            raise SystolithError(f"{label} must be made by a layer, not be the input '{quantized.array.name}'")
        order = _order(quantized.view)
        if order is None:
            raise SystolithError(f"{label} must be a permutation of what a layer makes; this Reshape moves data")
        dtype = "float32" if isinstance(x, Real) else quantized.dtype.name
        return Port(port.name, x.shape, dtype, quantized.array.name, order, quantized.dtype.name)


def _order(view: View) -> tuple[int, ...] | None:
    """Axes of the view in the order in which they make the row-major array, None where there is none."""
    if any(len(axis) > 1 for axis in view.axes):
        return None
    axes = [i for i, axis in enumerate(view.axes) if axis]
    return _with_ones(sorted(axes, key=lambda i: -view.axes[i][0].stride), view.shape)


def _with_ones(order: list[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The order completed by axes of size 1; where that makes it no permutation at all, it is the identity."""
    ones = [i for i in range(len(shape)) if shape[i] == 1]
    return tuple(range(len(shape))) if order == sorted(order) else (*ones, *order)


def _element_type(port: ValueInfoProto, label: str) -> np.dtype:
    kind = port.type.tensor_type.elem_type if port.type.HasField("tensor_type") else 0
    types: dict[int, type] = {TensorProto.FLOAT: np.float32, TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8}
    if kind not in types:
        kinds: dict[int, str] = {number: name.lower() for name, number in TensorProto.DataType.items()}
        raise SystolithError(f"{label} must be float32, int8 or uint8, not {kinds.get(kind, kind)}")
    return np.dtype(types[kind])


def _stored(tensor: TensorProto, label: str) -> Constant:
    try:
        return Constant(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise SystolithError(f"{label} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _constant(node: Node) -> Constant:
    kinds = {"value": None, "value_float": 0.0, "value_floats": None, "value_int": 0, "value_ints": ()}
    values = node.attributes(**kinds)
    if len(node.proto.attribute) != 1:
        raise node.error(f"must have one attribute, not {len(node.proto.attribute)}")
    name = node.proto.attribute[0].name
    if name == "value":
        return _stored(values[name], f"{node.where}: Constant '{node.name}'")
    return Constant(np.array(values[name], np.float32 if "float" in name else np.int64))
