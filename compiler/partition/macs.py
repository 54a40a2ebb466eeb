"""Multiply-accumulates of ONNX nodes, for the share of the host: `macs(node, scope)`.
 Operators that multiply and sum count: products of matrices, convolutions, recurrent layers, attention. Elementwise
operators, sums alone and interpolation count 0. Nothing is subtracted: not padding, masks, nor sequences that end
early. A dimension that is not known counts as 1, and a Loop whose trip count is not known runs once: the number is a
lower bound there. Of If the larger branch counts.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

__all__ = ["Scope", "macs"]

Shape = tuple[int, ...]
FEW = 64
"""Elements of a stored tensor whose values may say a shape."""
MOST_TRIPS = 2**31 - 1
"""Of a Loop; a while-loop says that it has more."""


@dataclass(frozen=True)
class Scope:
    """The tensors that a node can read: `types` of those that are computed or given, `stored` ones with values."""

    types: Mapping[str, ValueInfoProto]
    stored: Mapping[str, TensorProto]
    opsets: Sequence[OperatorSetIdProto]

    @classmethod
    def of(cls, model: ModelProto, types: Iterable[ValueInfoProto]) -> "Scope":
        """The outermost one, with the types of what the model's nodes read and make."""
        sparse = (
            helper.make_tensor_value_info(tensor.values.name, tensor.values.data_type, tensor.dims)
            for tensor in model.graph.sparse_initializer
        )
        return cls({port.name: port for port in (*types, *sparse)}, _stored(model.graph), model.opset_import)

    def shape(self, name: str) -> Shape:
        """The tensor's dimensions, 1 where one is not known; () where not even the rank is."""
        if name in self.stored:
            return tuple(self.stored[name].dims)
        if name not in self.types:
            return ()
        known = (dim.dim_value if dim.HasField("dim_value") else 1 for dim in _dims(self.types[name]))
        return tuple(size if size >= 0 else 1 for size in known)

    def port(self, name: str) -> ValueInfoProto | None:
        """The tensor's type, None where it is not known."""
        if name in self.stored:
            return helper.make_tensor_value_info(name, self.stored[name].data_type, self.stored[name].dims)
        return self.types.get(name)

    def inside(self, body: GraphProto, given: Mapping[str, ValueInfoProto]) -> "Scope":
        """That of a graph in an attribute, some of whose inputs are `given`, by name."""
        graph = GraphProto()
        graph.CopyFrom(body)
        own = [given.get(port.name, port) for port in body.input]
        own_names = {port.name for port in own} | _stored(body).keys() | {y for node in body.node for y in node.output}
        outer = {name: tensor for name, tensor in self.stored.items() if name not in own_names}
        small = [tensor for tensor in outer.values() if prod(tensor.dims) <= FEW]
        types = {**self.types, **{t.name: self.port(t.name) for t in outer.values() if prod(t.dims) > FEW}}
        del graph.input[:]
        graph.input.extend([*own, *(port for name, port in types.items() if port and name not in own_names)])
        graph.initializer.extend(small)
        model = ModelProto(ir_version=onnx.IR_VERSION, opset_import=self.opsets)
        model.graph.CopyFrom(graph)
        try:
            found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            found = graph  # What the file says, then.
        ports = {port.name: port for port in (*graph.input, *found.value_info, *found.output)}
        return Scope({**self.types, **ports}, {**self.stored, **_stored(body)}, self.opsets)


def macs(node: NodeProto, scope: Scope) -> int:
    """Multiply-accumulates of a node, those of the graphs inside it included."""
    bodies = [a.g for a in node.attribute if a.HasField("g")] + [g for a in node.attribute for g in a.graphs]
    if bodies:
        ports = [scope.port(name) for name in node.input]
        if node.op_type == "Scan":
            ports = _scanned(node, ports)
        states = 2 if node.op_type == "Loop" else 0  # A count and a condition come before, here as well as inside.
        return _times(node, scope) * max(_of_graph(body, scope, ports, states) for body in bodies)
    name = f"{node.domain}.{node.op_type}" if node.op_type == "Attention" else node.op_type
    count = OPERATORS.get(name.removeprefix("ai.onnx").removeprefix("."))
    return count(node, [scope.shape(name) for name in node.input], scope.shape(node.output[0])) if count else 0


def _of_graph(body: GraphProto, scope: Scope, ports: Sequence[ValueInfoProto | None], first: int) -> int:
    """Of a graph in an attribute once, whose inputs, from the `first` on, have the types of `ports`."""
    given = {}
    for inner, outer in zip(body.input[first:], ports[first:], strict=False):
        if outer is not None:
            given[inner.name] = ValueInfoProto(name=inner.name, type=outer.type)
    inside = scope.inside(body, given)
    return sum(macs(node, inside) for node in body.node)


def _times(node: NodeProto, scope: Scope) -> int:
    """How often the graph of a node runs."""
    if node.op_type == "Scan":
        axis = _attribute(node, "scan_input_axes", [0])[0]
        return _dim(scope.shape(node.input[-_attribute(node, "num_scan_inputs", 1)]), axis)
    trips = scope.stored.get(node.input[0]) if node.op_type == "Loop" else None
    if trips is None or prod(trips.dims) != 1:
        return 1
    count = int(numpy_helper.to_array(trips).reshape(()))
    return max(count, 0) if count <= MOST_TRIPS else 1


def _scanned(node: NodeProto, ports: list[ValueInfoProto | None]) -> list[ValueInfoProto | None]:
    """The types of a Scan's inputs inside: states as they are, the others without the axis that it goes along."""
    count = _attribute(node, "num_scan_inputs", 1)
    axes = _attribute(node, "scan_input_axes", [0] * count)
    states = len(ports) - count
    return ports[:states] + [_without(port, axis) for port, axis in zip(ports[states:], axes, strict=False)]


def _without(port: ValueInfoProto | None, axis: int) -> ValueInfoProto | None:
    """The type without one axis."""
    if port is None or not _dims(port):
        return None
    cut = ValueInfoProto()
    cut.CopyFrom(port)
    del cut.type.tensor_type.shape.dim[axis % len(_dims(port))]
    return cut


def _stored(graph: GraphProto) -> dict[str, TensorProto]:
    """Initializers, and what Constant nodes make, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensor = TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            found[tensor.name] = tensor
    return found


def _dims(port: ValueInfoProto) -> Sequence[Any]:
    return port.type.tensor_type.shape.dim


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)


def _dim(shape: Shape, axis: int) -> int:
    """A dimension, 1 if there is none."""
    return shape[axis] if -len(shape) <= axis < len(shape) else 1


# Each of these takes a node, the shapes of its inputs (() for one that is not there), and that of its first output.


def _convolution(weights: int) -> "Count":
    return lambda _, x, y: prod(y) * prod(x[weights][1:])


def _transposed_convolution(_: NodeProto, x: list[Shape], y: Shape) -> int:
    return prod(x[0]) * prod(x[1][1:])


def _product(second: int) -> "Count":
    """Of two matrices, or batches of them; `second` is the second one's place among the inputs."""

    def count(node: NodeProto, x: list[Shape], y: Shape) -> int:
        a, b = x[0], x[second]
        inner_a, inner_b = -1, -2 if len(b) > 1 else -1
        if _attribute(node, "transA", 0) and len(a) > 1:
            inner_a = 0 if _attribute(node, "transBatchA", 0) else -2
        if _attribute(node, "transB", 0) and len(b) > 1:
            inner_b = -1
        # Either may be unknown.
        return prod(y) * max(_dim(a, inner_a), _dim(b, inner_b))

    return count


def _packed_product(node: NodeProto, x: list[Shape], y: Shape) -> int:
    """Weights of 4 bits, say, whose stored shape says nothing."""
    return prod(x[0][:-1]) * _attribute(node, "K", _dim(x[0], -1)) * _attribute(node, "N", _dim(y, -1))


def _recurrent(_: NodeProto, x: list[Shape], y: Shape) -> int:
    """Input and recurrence weights of all gates and directions, for each step of each sequence."""
    return prod(x[0][:2]) * (prod(x[1]) + prod(x[2]))


def _einsum(node: NodeProto, x: list[Shape], y: Shape) -> int:
    """Operands are multiplied from left to right; a label that is needed no more is summed at once."""
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    terms, _, output = equation.partition("->")
    labels = [_labels(term, len(shape)) for term, shape in zip(terms.split(","), x, strict=False)]
    sizes: dict[str, int] = {}
    for names, shape in zip(labels, x, strict=False):
        for name, size in zip(names, shape, strict=False):
            sizes[name] = max(size, sizes.get(name, 1))
    often = Counter(name for names in labels for name in names)
    kept = set(_labels(output, len(y))) if "->" in equation else {name for name, count in often.items() if count == 1}
    total, held = 0, set(labels[0])
    for i, names in enumerate(labels[1:], 1):
        held |= set(names)
        total += prod(sizes.get(name, 1) for name in held)
        held &= kept.union(*labels[i + 1 :])
    return total


def _labels(term: str, rank: int) -> list[str]:
    """One for each axis; those of an ellipsis are numbers, counted from its end."""
    before, dots, after = term.partition("...")
    hidden = [str(-i) for i in range(rank - len(before) - len(after), 0, -1)] if dots else []
    return [*before, *hidden, *after]


def _attention(node: NodeProto, x: list[Shape], y: Shape) -> int:
    """Of ai.onnx: (batch, heads, length, size) or (batch, length, heads * size); keys of the past come before."""
    query, key, value = x[:3]
    length = _dim(key, -2) + _past(x, 4, 2)
    if len(query) == 4:
        return prod(query[:3]) * length * (query[3] + _dim(value, 3))
    heads = _attribute(node, "q_num_heads", 1)
    shared = heads // max(_attribute(node, "kv_num_heads", heads), 1)
    return prod(query[:2]) * length * (_dim(query, 2) + _dim(value, 2) * shared)


def _self_attention(past: int) -> "Count":
    """Of com.microsoft, projections included: input (batch, length, size), weights (size, q + k + v)."""

    def count(node: NodeProto, x: list[Shape], y: Shape) -> int:
        sizes = _attribute(node, "qkv_hidden_sizes", [_dim(x[1], 1) // 3] * 3)
        return prod(x[0][:2]) * (prod(x[1]) + (_dim(x[0], 1) + _past(x, past, 3)) * (sizes[0] + sizes[2]))

    return count


def _heads(past: int) -> "Count":
    """Of com.microsoft, without projections: query, key and value (batch, length, heads * size), or packed in one, or
    key and value with heads before the length."""

    def count(node: NodeProto, x: list[Shape], y: Shape) -> int:
        query, key = x[0], (x[1] if len(x) > 1 and x[1] else x[0])
        width = _dim(query, 2) if len(query) == 3 and key is not query else _dim(y, 2)
        length = _dim(key, 2 if len(key) == 4 else 1) + _past(x, past, 2)
        return prod(query[:2]) * length * (width + _dim(y, 2))

    return count


def _past(x: list[Shape], index: int, axis: int) -> int:
    """Length of what an optional input brings from before."""
    return _dim(x[index], axis) if len(x) > index and x[index] else 0


Count = Callable[[NodeProto, list[Shape], Shape], int]
OPERATORS: dict[str, Count] = {
    **dict.fromkeys(("Conv", "ConvInteger", "DeformConv", "FusedConv", "NhwcConv", "NhwcFusedConv"), _convolution(1)),
    "QLinearConv": _convolution(3),
    **dict.fromkeys(("ConvTranspose", "ConvTransposeWithDynamicPads"), _transposed_convolution),
    **dict.fromkeys(
        ("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "FusedMatMul", "TransposeMatMul",
         "FusedMatMulActivation", "Gemm", "FusedGemm", "GemmFastGelu", "GemmFloat8"), _product(1)
    ),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), _product(3)),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "MatMulFpQ4"), _packed_product),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    "Einsum": _einsum,
    "Attention": _attention,
    "com.microsoft.Attention": _self_attention(4),
    "MultiHeadAttention": _heads(6),
    "GroupQueryAttention": _heads(3),
    "QAttention": _self_attention(8),
}  # fmt: skip
