"""Golden model against ONNX Runtime, operator by operator, so that no difference grows in the layers behind it.

Every quantized tensor of the ONNX model that is a value of the graph becomes an output of it. Golden runs layer by
layer; as soon as a value is whole that ONNX Runtime has too, they are compared, and golden goes on with ONNX Runtime's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.frontend.model.types import tensor_types
from systolith.compiler.ir.graph import Graph, Port
from systolith.errors import UnsupportedError
from systolith.program import Program
from systolith.sim.golden import golden
from systolith.sim.host.tensors import check_inputs, from_device, to_device
from systolith.sim.reference import reference
from systolith.stored_models import with_sizes

__all__ = [
    "Exposed",
    "LayerCheck",
    "compare",
    "compare_layers",
    "exposed",
    "float_tensors",
    "graph_of",
    "inner_tensors",
]

FARTHEST = 1 << 30
"""Steps; what is farther away is as wrong."""
EIGHT_BITS = ("int8", "uint8")


@dataclass(frozen=True)
class LayerCheck:
    """One compared tensor, `output`, and the last layer that wrote to it. `largest` is the largest difference in steps.

    `promised`: ONNX Runtime made it in integers, so that nothing may differ; otherwise at most one step.
    """

    name: str
    op: str
    output: str
    elements: int
    differing: int
    largest: int
    promised: bool

    @property
    def passed(self) -> bool:
        return self.largest <= (0 if self.promised else 1)


@dataclass(frozen=True)
class Exposed:
    """A part's model and graph with more outputs: every tensor that can be compared."""

    model: bytes
    graph: Graph

    @property
    def names(self) -> list[str]:
        """Tensors that it reads and makes."""
        return [port.name for port in (*self.graph.inputs, *self.graph.outputs)]


def compare_layers(model: bytes, graph: Graph, inputs: Mapping[str, NDArray]) -> list[LayerCheck]:
    """Compare each layer of `graph`, made by `import_model` of `model`, on the inputs that it has in ONNX Runtime."""
    check_inputs(graph.inputs, inputs)
    part = exposed(model, graph)
    theirs = {**inputs, **reference.run(part.model, inputs)}
    return compare(part, theirs, float_tensors(part.model))


def exposed(model: bytes, graph: Graph) -> Exposed:
    """A part that `import_model` took; without tensors that a network can have inside, but not as output."""
    names = _exposable(model, graph)
    while True:
        extended = expose(model, graph.inputs, names)
        try:
            return Exposed(extended, import_model(extended, "the model with more outputs"))
        except UnsupportedError as error:
            if error.node not in names:
                raise
            names = [name for name in names if name != error.node]


def compare(part: Exposed, theirs: Mapping[str, NDArray], inexact: set[str]) -> list[LayerCheck]:
    """Compare with ONNX Runtime's tensors, by name, on the inputs that are among them. Of `inexact` nothing is
    promised."""
    graph = part.graph
    if others := [port for port in (*graph.inputs, *graph.outputs) if not _is_like(theirs.get(port.name), port)]:
        return [_check(port.name, "shape", port.name, np.full(1, np.inf), True) for port in others]
    tensors = {}
    for port in graph.outputs:
        value = graph.values[port.value]
        if port.dtype != "float32":
            tensors[port.value] = to_device(theirs[port.name], port, value.scale, value.zero_point, value.dims)
    values = golden.start(graph, {port.name: theirs[port.name] for port in graph.inputs})
    return [*_layers(graph, values, tensors, inexact), *_float_outputs(graph, values, theirs, inexact)]


def _is_like(values: Any, port: Port) -> bool:
    """Whether ONNX Runtime's tensor has the shape and type of the graph's: not if the model is another one."""
    return isinstance(values, np.ndarray) and (values.shape, values.dtype.name) == (port.shape, port.dtype)


def inner_tensors(program: Program, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """By name, what golden makes of every 8-bit tensor of a program's model that is a value of its graph, outputs
    included."""
    more = exposed(program.model, graph_of(program)).graph
    eight_bits = [port.name for port in more.outputs if port.dtype != "float32"]
    values = golden.run(more, inputs)
    return {name: values[name] for name in eight_bits}


def graph_of(program: Program) -> Graph:
    """What a program's model was imported to."""
    model = with_sizes(onnx.load_from_string(program.model), program.inputs)
    return import_model(model.SerializeToString(), "the program's model")


def expose(model: bytes, inputs: Iterable[Port], names: list[str]) -> bytes:
    """The model with inputs of these sizes, and more outputs: those of `names` that have 8 bits, in their shape."""
    proto = with_sizes(onnx.load_from_string(model), inputs)
    for name, kind in tensor_types(proto, names, "the model with more outputs").items():
        if kind.dtype in EIGHT_BITS:
            proto.graph.output.append(onnx.helper.make_value_info(name, kind.proto))
    return proto.SerializeToString()


def _exposable(model: bytes, graph: Graph) -> list[str]:
    """Values of the graph, made by layers, that are tensors of the model, and not its outputs already."""
    proto = onnx.load_from_string(model).graph
    made = {name for node in proto.node for name in node.output}
    outputs = {port.name for port in proto.output}
    inputs = {port.value for port in graph.inputs}
    return [name for name in graph.values if name in made and name not in outputs and name not in inputs]


def float_tensors(model: bytes) -> set[str]:
    """Tensors that ONNX Runtime computes in float32, or quantizes from such: also before it moves them, where the model
    has them moved first."""
    made = {name for node in onnx.load_from_string(model).graph.node for name in node.output}
    graph = reference.optimized(model)
    found = {name for node in reference.float_nodes(graph) for name in node.output}
    eight_bits: set[str] = set()
    for node in graph.node:
        if node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear"):
            eight_bits.update(node.output)
        if node.op_type != "DequantizeLinear" and found.difference(eight_bits).intersection(node.input):
            found.update(node.output)
        elif found.intersection(eight_bits).difference(made).intersection(node.input):
            found.update(node.output)
            eight_bits.update(node.output)
    return found


def _layers(
    graph: Graph, values: golden.Values, theirs: Mapping[str, NDArray[np.int8]], inexact: set[str]
) -> list[LayerCheck]:
    """Run layer by layer; each value that ONNX Runtime has too is compared, and ONNX Runtime's from then on."""
    last = {layer.output: index for index, layer in enumerate(graph.layers)}
    for name, value in graph.values.items():
        part = value
        while part.inside is not None and name in last:
            last[part.inside.whole] = max(last.get(part.inside.whole, -1), last[name])
            part = graph.values[part.inside.whole]
    checks = []
    for index, layer in enumerate(graph.layers):
        golden.step(graph, layer, values)
        for name in [name for name in theirs if last.get(name) == index]:
            mine = golden.place(graph, values, name)
            steps = np.abs(mine.astype(np.int16) - theirs[name])
            checks.append(_check(layer.name, layer.op, name, steps, name not in inexact))
            mine[...] = theirs[name]
    return checks


def _float_outputs(
    graph: Graph, values: golden.Values, theirs: Mapping[str, NDArray], inexact: set[str]
) -> list[LayerCheck]:
    """Outputs that the host dequantizes, in steps of their scale. (What infinite numbers differ by is no number.)"""
    checks = []
    for port in graph.outputs:
        value = graph.values[port.value]
        if port.dtype == "float32":
            mine = from_device(golden.place(graph, values, port.value), port, value.scale, value.zero_point)
            with np.errstate(invalid="ignore"):
                steps = np.where(mine == theirs[port.name], 0, np.abs(mine - theirs[port.name]) / value.scale)
            promised = not inexact.intersection((port.name, port.value))
            checks.append(_check(port.name, "output", port.name, np.nan_to_num(steps, nan=np.inf), promised))
    return checks


def _check(name: str, op: str, output: str, steps: NDArray, promised: bool) -> LayerCheck:
    """`steps` may be no integers: what is within half a step of a number of steps is that number, but not none."""
    largest = float(steps.max(initial=0))
    return LayerCheck(name, op, output, steps.size, int((steps > 0).sum()), ceil(min(largest, FARTHEST) - 0.5) or
                      int(largest > 0), promised)  # fmt: skip
