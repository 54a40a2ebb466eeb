"""What integers a model can take for an input that is an index, a size or a count: `input_ranges`, for random inputs.

An input is followed through nodes that leave its values, into the graphs inside nodes as well, to those that read it as
one of these; several have to agree.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Values", "input_ranges"]

Shape = tuple[int | None, ...]
Values = tuple[int, int] | list[int]
"""First and last value to draw from; or the only values that are sure to do."""
KEEPING = {
    "Cast": 1, "Identity": 1, "Reshape": 1, "Squeeze": 1, "Unsqueeze": 1, "Transpose": 1, "Flatten": 1, "Slice": 1,
    "Expand": 1, "Tile": 1, "Split": 1, "Gather": 1, "GatherElements": 1, "GatherND": 1, "Concat": 99, "Max": 99,
    "Min": 99, "DepthToSpace": 1, "SpaceToDepth": 1,
}  # fmt: skip
"""Operators whose outputs have no other values than their first inputs, and how many those are."""
REAL = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
COUNT = 4
"""Of a Loop's turns, or of another number that only makes work."""


def input_ranges(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Values]:
    """The integers for each input that must have certain ones. `shapes` are those of inputs, and of other tensors that
    are known; None for a dimension that is not."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for port in (*fixed.graph.input, *fixed.graph.output):
        if port.name in shapes:
            kind = port.type.tensor_type.elem_type
            port.CopyFrom(helper.make_tensor_value_info(port.name, kind, shapes[port.name]))
    del fixed.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        graph = fixed.graph
    walk = _Walk(graph, shapes)
    found = {port.name: walk.of(port.name) for port in graph.input}
    return {name: values for name, values in found.items() if values is not None}


class _Walk:
    """Readers, shapes and constants of a graph and of those inside its nodes."""

    def __init__(self, graph: GraphProto, shapes: Mapping[str, Shape]):
        self.shapes: dict[str, Shape] = dict(shapes)
        self.kinds: dict[str, int] = {}
        self.constants: dict[str, NDArray] = {}
        self.readers: dict[str, list[tuple[NodeProto, int]]] = {}
        self._add(graph)

    def _add(self, graph: GraphProto) -> None:
        for port in (*graph.input, *graph.value_info, *graph.output):
            self.kinds[port.name] = port.type.tensor_type.elem_type
            if port.type.tensor_type.HasField("shape"):
                dims = port.type.tensor_type.shape.dim
                known = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
                self.shapes.setdefault(port.name, known)
        for tensor in graph.initializer:
            self._store(tensor.name, tensor)
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    self._store(node.output[0], attribute.t)
                for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    self._add(inner)
            for place, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, place))

    def _store(self, name: str, tensor: TensorProto) -> None:
        self.shapes[name] = tuple(tensor.dims)
        self.constants[name] = numpy_helper.to_array(tensor)

    def of(self, name: str) -> Values | None:
        """What a tensor's readers allow."""
        found: Values | None = None
        size = _size(self.shapes.get(name))
        for values in self._wanted(name, set()):
            if isinstance(values, list) and len(values) != size:
                values = (max(min(values), 1), max(*values, 1))  # A part of them, or several.
            found = values if found is None or isinstance(values, list) else _both(found, values)
        return found

    def _wanted(self, name: str, seen: set[str]) -> Iterator[Values]:
        seen.add(name)
        for node, place in self.readers.get(name, []):
            rule = RULES.get((node.op_type, place))
            values = rule(_Reader(self, node, place)) if rule else None
            if values is not None:
                yield values
            elif place < KEEPING.get(node.op_type, 0):
                for output in node.output:
                    if output not in seen:
                        yield from self._wanted(output, seen)


class _Reader:
    """A node that reads values at one of its places."""

    def __init__(self, walk: _Walk, node: NodeProto, place: int):
        self.walk, self.node, self.place = walk, node, place

    def shape(self, place: int) -> Shape | None:
        """Of one of its inputs."""
        name = self.node.input[place] if place < len(self.node.input) else ""
        return self.walk.shapes.get(name)

    def made(self) -> Shape | None:
        """The shape of its output."""
        return self.walk.shapes.get(self.node.output[0])

    def size(self) -> int | None:
        """How many values it reads there."""
        return _size(self.shape(self.place))

    def real(self) -> bool:
        """Whether it reads real numbers there."""
        return self.walk.kinds.get(self.node.input[self.place], TensorProto.FLOAT) in REAL

    def constant(self, place: int) -> NDArray | None:
        return self.walk.constants.get(self.node.input[place]) if place < len(self.node.input) else None

    def attribute(self, name: str, default: Any) -> Any:
        return next((helper.get_attribute_value(a) for a in self.node.attribute if a.name == name), default)

    def below(self, size: int | None) -> Values | None:
        """Indices of an axis of this size."""
        return None if not size else (0, size - 1)


def _size(shape: Shape | None) -> int | None:
    if shape is None or None in shape:
        return None
    return int(np.prod([dim or 0 for dim in shape], dtype=np.int64))


def _both(a: Values, b: Values) -> Values:
    """What both allow; the values of one, if they are certain ones or nothing is left."""
    if isinstance(a, list) or isinstance(b, list):
        return a if isinstance(a, list) else b
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low <= high else a


def _axis_of(data: int, default: int = 0) -> "Rule":
    """Indices along the axis that an attribute names, of the input `data`."""

    def rule(reader: _Reader) -> Values | None:
        shape, axis = reader.shape(data), reader.attribute("axis", default)
        return reader.below(shape[axis]) if shape and -len(shape) <= axis < len(shape) else None

    return rule


def _along(data: int, axis: int, first: int = 0) -> "Rule":
    """From `first` on, along a certain axis of the input `data`; counts if `first` is 1."""

    def rule(reader: _Reader) -> Values | None:
        shape = reader.shape(data)
        size = shape[axis] if shape and axis < len(shape) else None
        return (first, size - 1 + first) if size else None

    return rule


def _coordinates(reader: _Reader) -> Values | None:
    """Of GatherND and ScatterND: along the last axis of the indices lie one for each of the data's first axes."""
    shape, indices, skipped = reader.shape(0), reader.shape(1), reader.attribute("batch_dims", 0)
    if not shape or not indices or indices[-1] is None:
        return None
    sizes = shape[skipped : skipped + indices[-1]]
    return reader.below(min((size or 1 for size in sizes), default=1))


def _one_hot(reader: _Reader) -> Values | None:
    depth = reader.constant(1)
    return reader.below(int(depth.reshape(-1)[0]) if depth is not None and depth.size else None)


def _largest(reader: _Reader) -> Values | None:
    """K of TopK."""
    shape, axis = reader.shape(0), reader.attribute("axis", -1)
    size = shape[axis] if shape and -len(shape) <= axis < len(shape) else None
    return (1, size) if size else (1, 1)


def _new_shape(unknown: int) -> "Rule":
    """The shape that the output is known to have; `unknown` for the first dimension that is not known, 1 for others."""

    def rule(reader: _Reader) -> Values | None:
        made, size = reader.made(), reader.size()
        dims = list(made) if made is not None else [None] * (size or 0)
        first = dims.index(None) if None in dims else -1
        return [unknown if i == first else 1 if dim is None else dim for i, dim in enumerate(dims)]

    return rule


def _same_sizes(reader: _Reader) -> Values | None:
    """Those of the input, where they are known."""
    shape = reader.shape(0)
    return [dim or 1 for dim in shape] if shape else None


def _axes(reader: _Reader) -> Values | None:
    """Different ones."""
    return list(range(reader.size() or 0))


def _removed_axes(reader: _Reader) -> Values | None:
    """Different ones of size 1."""
    return [axis for axis, dim in enumerate(reader.shape(0) or ()) if dim == 1][: reader.size() or 0]


def _parts(reader: _Reader) -> Values | None:
    """Sizes of a Split: its axis, shared out."""
    shape, count, axis = reader.shape(0), reader.size(), reader.attribute("axis", 0)
    size = shape[axis] if shape and -len(shape) <= axis < len(shape) else None
    return [size // count + (i < size % count) for i in range(count)] if size and count else None


def _ends(reader: _Reader) -> Values | None:
    """Of a Slice: past every axis, so that something is left."""
    largest = max((dim or 1 for dim in reader.shape(0) or ()), default=1)
    return (largest, largest)


def _rank(reader: _Reader) -> Values | None:
    shape = reader.shape(0)
    return reader.below(len(shape)) if shape else None


def _always(first: int, last: int) -> "Rule":
    return lambda _: (first, last)


def _integers(first: int, last: int) -> "Rule":
    """For integers alone: with real numbers the operator takes others."""
    return lambda reader: None if reader.real() else (first, last)


Rule = Callable[[_Reader], Values | None]
RULES: dict[tuple[str, int], Rule] = {
    **{(op, 1): _axis_of(0)
       for op in ("Gather", "GatherElements", "ScatterElements", "Scatter", "GatherBlockQuantized")},
    **{(op, 1): _coordinates for op in ("GatherND", "ScatterND")},
    ("ArrayFeatureExtractor", 1): _axis_of(0, -1),
    ("EmbedLayerNormalization", 0): _along(2, 0), ("EmbedLayerNormalization", 1): _along(4, 0),
    ("OneHot", 0): _one_hot, ("OneHot", 1): _always(1, COUNT),
    ("TopK", 1): _largest,
    ("RoiAlign", 2): _along(0, 0),
    **{(op, 4): _along(0, 0, first=1) for op in ("LSTM", "GRU", "RNN")},
    ("ReverseSequence", 1): lambda reader: _along(0, reader.attribute("time_axis", 0), first=1)(reader),
    ("Reshape", 1): _new_shape(-1), ("Expand", 1): _new_shape(1), ("ConstantOfShape", 0): _new_shape(1),
    ("Tile", 1): _always(1, 1), ("Pad", 1): _always(0, 1), ("Pad", 3): _axes,
    ("Resize", 2): _always(1, 1), ("Upsample", 1): _always(1, 1), ("Resize", 3): _same_sizes,
    ("CenterCropPad", 1): _always(1, COUNT),
    ("Slice", 1): _always(0, 0), ("Slice", 2): _ends, ("Slice", 3): _axes, ("Slice", 4): _always(1, 1),
    ("Split", 1): _parts, ("Squeeze", 1): _removed_axes, ("Unsqueeze", 1): _axes,
    **{(f"Reduce{kind}", 1): _axes
       for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")},
    ("CumSum", 1): _rank, ("Trilu", 1): _always(-1, 1),
    ("Range", 0): _always(0, 0), ("Range", 1): _always(1, COUNT), ("Range", 2): _always(1, 1),
    ("Loop", 0): _always(1, COUNT), ("NonMaxSuppression", 2): _always(1, COUNT),
    ("SequenceAt", 1): _always(0, 0),
    ("Div", 1): _integers(1, COUNT), ("Mod", 1): _integers(1, COUNT), ("Pow", 1): _integers(0, 2),
    ("BitShift", 1): _always(0, COUNT),
}  # fmt: skip
"""What an operator takes at one of its places."""
