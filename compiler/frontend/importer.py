"""ONNX to graph: the walk over the nodes. Every node and attribute is either honoured or refused by name.
 Each node maps the descriptions of its input tensors to those of its outputs. QuantizeLinear, the quantized operators
and those that move data append layers. Nodes that no output needs are skipped.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from systolith.compiler.frontend.fusing.channel_order import settled
from systolith.compiler.frontend.model.early_quantize import Key, early_keys, key_of
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.model.open_dims import check_batch
from systolith.compiler.frontend.model.reader import check_types, read_model
from systolith.compiler.frontend.model.types import TensorType, check_output
from systolith.compiler.frontend.operators.quantize_linear import quantize
from systolith.compiler.frontend.ports import input_port, input_tensor, output_port
from systolith.compiler.frontend.registry import BOTH, LAYERS, MICROSOFT, OPERATORS, PLAIN, VIEWS
from systolith.compiler.frontend.values.array import Array, Layers
from systolith.compiler.frontend.values.constants import fold
from systolith.compiler.frontend.values.tensors import (
    Constant,
    Dequantized,
    FloatInput,
    Pending,
    PendingConcat,
    Quantized,
    Tensor,
)
from systolith.compiler.frontend.values.views import strided
from systolith.compiler.ir.graph import Graph, SfuOp
from systolith.compiler.ir.verify import verify
from systolith.compiler.passes.dead_layers import remove_dead_layers
from systolith.compiler.passes.fold_pads import fold_pads
from systolith.compiler.passes.prove_accumulators import prove_accumulators
from systolith.errors import SystolithError, UnsupportedError

__all__ = ["import_model"]

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    verify,
    fold_pads,
    remove_dead_layers,
    prove_accumulators,
    verify,
)


def import_model(
    source: Path | bytes, where: str | None = None, batch: int = 1, types: Mapping[str, TensorType] | None = None
) -> Graph:
    """The network in an ONNX file, or in its bytes.

    `where` names the source in errors. A symbolic first dimension of an input becomes `batch`. With `types` of its
    tensors, the walk goes on behind a node that is refused, at the next tensors of 8 bits, and the error has those of
    other nodes with it. Raises SystolithError in one line for anything that is not ONNX or that the accelerator cannot
    run exactly.
    """
    where = where or (str(source) if isinstance(source, Path) else "model")
    model = read_model(source, where)
    check_batch(model, where, batch)
    walk = _Walk(model, where, batch, types)
    walk.run()
    graph = walk.graph()
    check_types(model, where)
    for function in PASSES:
        try:
            graph = function(graph)
        except UnsupportedError as error:
            raise UnsupportedError(f"{where}: {error}", error.node) from None
        except SystolithError as error:
            raise SystolithError(f"{where}: {error}") from None
    return graph


class _Walk:
    """One walk over the nodes of a model: tensors by name, and the layers found."""

    def __init__(self, model: ModelProto, where: str, batch: int, types: Mapping[str, TensorType] | None):
        self.model, self.where, self.batch, self.types = model, where, batch, types
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        self.tensors: dict[str, Tensor] = {}
        self.inputs: dict[str, FloatInput | Quantized] = {}
        self.layers: Layers = []
        self.names: set[str] = set()
        self.wanted: set[str] = set()
        self.notes: list[str] = []
        self.early = early_keys(model)
        self.quantized: dict[tuple[str, Key], Tensor] = {}
        self.unnamed: set[str] = set()
        self.errors: list[UnsupportedError] = []
        self.unknown: set[str] = set()

    def run(self) -> None:
        """Visit everything that the outputs need."""
        for initializer in self.model.graph.initializer:
            self.tensors[initializer.name] = _stored(initializer, f"{self.where}: initializer '{initializer.name}'")
        for port in self.model.graph.input:
            if port.name not in self.tensors:
                self.tensors[port.name] = self.inputs[port.name] = input_tensor(port, self.where, self.batch)
        for proto in self._needed():
            outputs = self._tried(proto)
            self.tensors |= {name: y for name, y in zip(proto.output, outputs, strict=False) if name}
        if self.errors:
            first, *others = self.errors
            first.others = tuple(others)
            raise first

    def _tried(self, proto: NodeProto) -> list[Tensor]:
        """The outputs of a node. Of one that is refused, or needs what such a one makes, those of 8 bits are as inputs
        of a network."""
        if self.types is None:
            return self._visit(proto)
        if not self.unknown.intersection(proto.input):
            try:
                return self._visit(proto)
            except UnsupportedError as error:
                self.errors.append(error)
        outputs: list[Tensor] = []
        for name in proto.output:
            kind = self.types.get(name)
            if kind is not None and kind.fixed is not None and all(kind.fixed) and kind.dtype in ("int8", "uint8"):
                array = Array(name, kind.fixed, np.dtype(kind.dtype))
                outputs.append(Quantized(array, strided(array.shape), np.dtype(kind.dtype)))
            else:
                self.unknown.add(name)
                outputs.append(Constant(np.zeros(())))  # Nothing reads it.
        return outputs

    def graph(self) -> Graph:
        """Layers and ports of what was visited."""
        outputs = tuple(
            output_port(self._maker(port.name), self.tensors[port.name], port.name, self.layers)
            for port in self.model.graph.output
        )
        for port, output in zip(self.model.graph.output, outputs, strict=True):
            check_output(port, output.dtype, self.where)
        arrays = [x.array for x in self.inputs.values()]
        for _, array in self.layers:
            while array is not None:
                arrays.append(array)
                array = array.whole
        for array in arrays:
            if array.scale is None and array.roles is not None:
                array.scale, array.zero_point = np.float32(1), 0  # Nothing computes with it.
        inputs = tuple(input_port(name, x, self.where) for name, x in self.inputs.items())
        values = {array.name: array.value() for array in arrays}
        layers = tuple(layer for layer, _ in self.layers if layer is not None)
        name = self.model.graph.name or Path(self.where).stem
        return Graph(name, values, layers, inputs, outputs, tuple(self.notes))

    def _maker(self, name: str) -> Node:
        """The node that makes a tensor, for errors; for a network input a node of its own."""
        makers = (node for node in self.model.graph.node if name in node.output)
        return Node(next(makers, NodeProto(op_type="Output", output=[name])), self.where, 0)

    def _needed(self) -> list[NodeProto]:
        """Nodes that some output depends on, in the file's order."""
        wanted = self.wanted = {port.name for port in self.model.graph.output}
        needed = []
        for node in reversed(self.model.graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                needed.append(node)
            else:
                self.notes.append(f"{node.op_type} '{node.name or ', '.join(node.output)}' is needed by no output")
        return needed[::-1]

    def _visit(self, proto: NodeProto) -> list[Tensor]:
        """The outputs of a node; those at the end that nothing needs may be missing."""
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        node = Node(proto, self.where, self.opsets.get(domain, 0) or self.opsets.get("ai.onnx", 0), self.notes)
        if node.name in self.names:
            node.name = proto.output[0]  # Names of nodes need not be unique; those of tensors are.
        self.names.add(node.name)
        inputs = [self.tensors[name] if name else None for name in proto.input]
        outputs = fold(node, inputs) or self._apply(node, domain, inputs)
        for name in proto.output[len(outputs) :]:
            if name in self.wanted:
                raise node.unsupported(f"output '{name}' must not be used")
        return outputs

    def _apply(self, node: Node, domain: str, inputs: list[Tensor | None]) -> list[Tensor]:
        if node.op == "Constant":
            return [_constant(node)]
        known = node.op in OPERATORS and (node.op in BOTH or (node.op in MICROSOFT) == (domain == "com.microsoft"))
        if not known:
            named = f"{domain}.{node.op}" if domain else node.op
            raise node.unsupported(f"operator {named} is not supported")
        if node.op in VIEWS:
            return [VIEWS[node.op](node, inputs)]
        for i, name in enumerate(node.proto.input):
            if name:
                inputs[i] = self.tensors[name] = settled(node, self.tensors[name], name, self.layers)
        if node.op == "QuantizeLinear":
            return [self._quantized(node, inputs)]
        given = self._early(node, inputs) if node.proto.output[0] in self.early else inputs
        if node.op in PLAIN:
            return [PLAIN[node.op](node, given)]
        made = LAYERS[node.op](node, given, self.layers)
        outputs = made if isinstance(made, list) else [made]
        if given is not inputs or any(
            isinstance(x, Dequantized) and x.quantized.array.name in self.unnamed for x in inputs
        ):
            self.unnamed |= {y.quantized.array.name for y in outputs if isinstance(y, Dequantized)}
        return outputs

    def _quantized(self, node: Node, inputs: list[Tensor | None]) -> Tensor:
        """QuantizeLinear: of a layer's result as often as there are different ones."""
        x, name = inputs[0], node.proto.input[0]
        if isinstance(x, Dequantized) and x.quantized.array.name in self.unnamed:
            return self._named(node, x, quantize(node, inputs, self.layers))
        if not isinstance(x, Pending):
            return quantize(node, inputs, self.layers)
        key = key_of(*(t.values if isinstance(t, Constant) else None for t in inputs[1:3]))
        if key is None:
            return quantize(node, inputs, self.layers)
        if (name, key) not in self.quantized:
            self.quantized[name, key] = quantize(node, inputs, self.layers)
        return self.quantized[name, key]

    def _named(self, node: Node, x: Dequantized, y: Tensor) -> Tensor:
        """What was quantized early, by the name that the model has for it, so that both can be compared. (A copy: the
        compiler drops it.)"""
        source, name = x.quantized.array, node.proto.output[0]
        if not isinstance(y, Quantized) or y.array is not source or source.scale is None or source.zero_point is None:
            return y
        array = source.same(name, y.dtype, source.scale, source.zero_point)
        self.layers.append((SfuOp(node.name, node.op, source.name, name), array))
        return Quantized(array, y.view, y.dtype)

    def _early(self, node: Node, inputs: list[Tensor | None]) -> list[Tensor | None]:
        """Inputs of an operator that moves values; layers' results among them quantized as what it makes will be. The
        list itself if there are none."""
        scale, zero_point, dtype = self.early[node.proto.output[0]]
        parameters = [Constant(np.array(scale, np.float32)), Constant(np.array(zero_point, dtype))]
        found = list(inputs)
        for i, (name, x) in enumerate(zip(node.proto.input, inputs, strict=True)):
            if isinstance(x, PendingConcat if node.op in ("Relu", "Clip") else Pending):  # Layers take these two in.
                proto = helper.make_node("QuantizeLinear", [name, "scale", "zero_point"], [f"{name}:quantized"])
                y = self._quantized(Node(proto, self.where, node.opset, self.notes), [x, *parameters])
                found[i] = Dequantized(y) if isinstance(y, Quantized) else y
        return inputs if all(new is old for new, old in zip(found, inputs, strict=True)) else found


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
