"""Golden model against ONNX Runtime, operator by operator, so that no difference grows in the layers behind it.

Every quantized tensor of the ONNX model that is a value of the graph becomes an output of it. Golden runs layer by
layer; as soon as a value is whole that ONNX Runtime has too, they are compared, and golden goes on with ONNX Runtime's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.frontend.nodes import fixed_batch
from systolith.compiler.ir import Graph
from systolith.errors import UnsupportedError
from systolith.sim import golden, reference
from systolith.sim.host import check_inputs, to_device

__all__ = ["LayerCheck", "batch_of", "compare_layers", "inner_tensors"]

EIGHT_BITS = {"tensor(int8)": onnx.TensorProto.INT8, "tensor(uint8)": onnx.TensorProto.UINT8}


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


def compare_layers(model: bytes, graph: Graph, inputs: Mapping[str, NDArray]) -> list[LayerCheck]:
    """Compare each layer of `graph`, made by `import_model` of `model`, on the inputs that it has in ONNX Runtime."""
    check_inputs(graph.inputs, inputs)
    extended, exposed = _exposed(model, _exposable(model, graph), batch_of(model, inputs))
    theirs = reference.run(extended, inputs)
    tensors = {}
    for port in exposed.outputs:
        value = exposed.values[port.value]
        if port.dtype != "float32":
            tensors[port.value] = to_device(theirs[port.name], port, value.scale, value.zero_point, value.dims)
    return _compare(exposed, inputs, tensors, _float_tensors(extended))


def inner_tensors(model: bytes, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """By name, what golden makes of every 8-bit tensor of the model that is a value of its graph, outputs included."""
    batch = batch_of(model, inputs)
    graph = import_model(model, "the program's model", batch)
    _, exposed = _exposed(model, _exposable(model, graph), batch)
    eight_bits = [port.name for port in exposed.outputs if port.dtype != "float32"]
    values = golden.run(exposed, inputs)
    return {name: values[name] for name in eight_bits}


def batch_of(model: bytes, inputs: Mapping[str, NDArray]) -> int:
    """The batch that these inputs give a model in which it is open; else 1, the default."""
    for port in onnx.load_from_string(model).graph.input:
        dims = port.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value") and port.name in inputs:
            return inputs[port.name].shape[0]
    return 1


def _exposed(model: bytes, names: list[str], batch: int) -> tuple[bytes, Graph]:
    """The model with more outputs, and its graph; without tensors that a network can have inside, but not as output."""
    while True:
        extended = expose(model, names, batch)
        try:
            return extended, import_model(extended, "the model with more outputs", batch)
        except UnsupportedError as error:
            if error.node not in names:
                raise
            names = [name for name in names if name != error.node]


def expose(model: bytes, names: list[str], batch: int = 1) -> bytes:
    """The model with more outputs: those of `names` that have 8 bits, in the shape that they have with that batch."""
    proto = onnx.load_from_string(model)
    probe = fixed_batch(proto, batch)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    for port in reference.session(probe.SerializeToString()).get_outputs():
        if port.name in names and port.type in EIGHT_BITS:
            proto.graph.output.append(onnx.helper.make_tensor_value_info(port.name, EIGHT_BITS[port.type], port.shape))
    return proto.SerializeToString()


def _exposable(model: bytes, graph: Graph) -> list[str]:
    """Values of the graph, made by layers, that are tensors of the model, and not its outputs already."""
    proto = onnx.load_from_string(model).graph
    made = {name for node in proto.node for name in node.output}
    outputs = {port.name for port in proto.output}
    inputs = {port.value for port in graph.inputs}
    return [name for name in graph.values if name in made and name not in outputs and name not in inputs]


def _float_tensors(model: bytes) -> set[str]:
    """Tensors that ONNX Runtime computes in float32, or quantizes from such."""
    graph = reference.optimized(model)
    found = {name for node in reference.float_nodes(graph) for name in node.output}
    eight_bits: set[str] = set()
    for node in graph.node:
        if node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear"):
            eight_bits.update(node.output)
        if node.op_type != "DequantizeLinear" and found.difference(eight_bits).intersection(node.input):
            found.update(node.output)
    return found


def _compare(
    graph: Graph, inputs: Mapping[str, NDArray], theirs: Mapping[str, NDArray[np.int8]], inexact: set[str]
) -> list[LayerCheck]:
    values = golden.start(graph, inputs)
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
            checks.append(
                LayerCheck(layer.name, layer.op, name, steps.size, int((steps > 0).sum()), int(steps.max(initial=0)),
                           name not in inexact)
            )  # fmt: skip
            mine[...] = theirs[name]
    return checks
