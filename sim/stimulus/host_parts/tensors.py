"""The growing model of networks with host parts: tensors of any type, whose shapes may depend on data.

Adds to `RandomTensors` nodes that the accelerator does not run. Their results are known as ONNX Runtime, unoptimized,
computes them, in their own types; a `Body` collects the nodes of a graph inside If, Loop or Scan.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import GraphProto, TensorProto, helper, numpy_helper

from systolith.sim.stimulus.model_writer import port
from systolith.sim.stimulus.tensors import LARGEST, Impossible, Quantized, RandomTensors

__all__ = ["Body", "HostTensors"]


class HostTensors(RandomTensors):
    """Random tensors of which some are for the host."""

    def values(self, name: str) -> NDArray:
        """What a tensor holds for the inputs that were drawn."""
        return self.reals[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape that a tensor has for these inputs."""
        return self.values(name).shape

    def known(self, x: Quantized) -> str:
        """The name of an 8-bit tensor, which host nodes read as it is."""
        self.reals[x.name] = x.values
        return x.name

    def free_input(self, values: NDArray) -> str:
        """A network input of any type."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.reals[name] = values
        return self.writer.input(name, values.dtype, values.shape)

    def ints(self, values: ArrayLike) -> str:
        """A constant of int64."""
        return self.constant(np.asarray(values, np.int64), "ints")

    def floats(self, values: ArrayLike) -> str:
        """A constant of float32."""
        return self.constant(np.asarray(values, np.float32), "floats")

    def host(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """The result of one node, in its own type."""
        return self.hosts(op, inputs, 1, **attributes)[0]

    def hosts(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Several results of one node. Raises Impossible for one that is none, too large, or not finite."""
        stem = f"{op.lower()}_{len(self.writer.nodes)}"
        names = [f"{stem}_{i}_out" for i in range(outputs)]
        node = helper.make_node(op, inputs, names, stem, **attributes)
        model = self._alone(node)
        found = self._run(model)
        for y, shape in zip(found, _partly_inferred(model), strict=True):
            if y.size > LARGEST or y.dtype.kind not in "fiub" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
                raise Impossible(f"{op} of {y.size} elements, or not finite")
            if shape is not None and (
                len(shape) != y.ndim or any(n not in (None, m) for n, m in zip(shape, y.shape, strict=True))
            ):
                raise Impossible(f"{op} has another shape by ONNX's rules")
        self.writer.nodes.append(node)
        self.reals |= zip(names, found, strict=True)
        return names

    def opaque(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """The result of a node that is no tensor (a sequence, an optional): `finished` computes what comes of it."""
        name = f"{op.lower()}_{len(self.writer.nodes)}"
        self.writer.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def finished(self, op: str, inputs: Sequence[str], first: int, **attributes: Any) -> str:
        """The tensor that a node makes of opaque ones; their nodes are those from number `first` on."""
        name = f"{op.lower()}_{len(self.writer.nodes)}"
        node = helper.make_node(op, inputs, [f"{name}_out"], name, **attributes)
        inner = [*self.writer.nodes[first:], node]
        made = {output for each in inner for output in each.output}
        names = {each for every in inner for each in every.input if each and each not in made}
        stored = [numpy_helper.from_array(self.reals[each], each) for each in names]
        model = self._alone(helper.make_node("Identity", [], [f"{name}_out"]))
        model.graph.CopyFrom(helper.make_graph(inner, "opaque", [], [onnx.ValueInfoProto(name=f"{name}_out")], stored))
        self.reals[f"{name}_out"] = self._run(model)[0]
        self.writer.nodes.append(node)
        return f"{name}_out"

    def cast(self, name: str, to: int) -> str:
        """Cast to a type of TensorProto."""
        return self.host("Cast", [name], to=to)

    def float_of(self, name: str) -> str:
        """The tensor in float32."""
        return name if self.values(name).dtype == np.float32 else self.cast(name, TensorProto.FLOAT)

    def int_of(self, name: str) -> str:
        """The tensor in int64."""
        return name if self.values(name).dtype == np.int64 else self.cast(name, TensorProto.INT64)

    def flat(self, name: str) -> str:
        """One dimension."""
        return self.host("Reshape", [name, self.ints([-1])])

    def shaped(self, name: str, shape: Sequence[int]) -> str:
        """Reshape to a shape that is stored."""
        return self.host("Reshape", [name, self.ints(shape)])

    def reduced(self, op: str, name: str, axes: Sequence[int], keepdims: int = 1) -> str:
        """A reduction, whose axes are an input or an attribute, as the operator set has them."""
        newer = 13 if op == "ReduceSum" else 18
        if self.writer.opset >= newer:
            return self.host(op, [name, self.ints(axes)], keepdims=keepdims)
        return self.host(op, [name], axes=list(axes), keepdims=keepdims)

    def unsqueezed(self, name: str, axes: Sequence[int]) -> str:
        """More dimensions of 1."""
        return self.host("Unsqueeze", [name, self.ints(axes)])

    def result(self, name: str) -> None:
        """Make a tensor a network output. Its shape is left open."""
        if name not in {port.name for port in self.writer.outputs}:
            self.writer.output(name, self.values(name).dtype, None)

    def back(self, name: str, like: Quantized | None = None) -> Quantized:
        """A real tensor of the host, quantized again. Its shape must not depend on data."""
        if not self.values(name).size:
            raise Impossible("nothing to quantize")
        return self.quantized(self.float_of(name), like)


class Body:
    """Nodes of a graph inside a node; their tensors have the prefix in their names, and are known only when it runs."""

    def __init__(self, net: HostTensors, stem: str):
        self.net, self.prefix = net, f"{stem}{len(net.writer.nodes)}_{len(net.writer.initializers)}"
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{self.prefix}_{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def constant(self, values: ArrayLike) -> str:
        """A constant of its own: an initializer of the graph, or a Constant node."""
        name = f"{self.prefix}_c{len(self.initializers) + len(self.nodes)}"
        tensor = numpy_helper.from_array(np.asarray(values), name)
        if self.net.chance(50):
            self.initializers.append(tensor)
            return name
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def graph(self, inputs: Sequence[tuple[str, Any, Sequence[int | str] | None]],
              outputs: Sequence[tuple[str, Any, Sequence[int | str] | None]]) -> GraphProto:  # fmt: skip
        """The graph; ports are names, types and shapes."""
        reads, makes = ([port(*each) for each in ports] for ports in (inputs, outputs))
        return helper.make_graph(self.nodes, self.prefix, reads, makes, self.initializers)


def _partly_inferred(model: onnx.ModelProto) -> list[tuple[int | None, ...] | None]:
    """Shapes of the outputs by ONNX's inference; None for what it does not know."""
    shapes = []
    for output in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output:
        kind = output.type.tensor_type
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
        shapes.append(dims if kind.HasField("shape") else None)
    return shapes
