"""Random networks in which layers of the accelerator and operators of the host mix.

`random_host_network(draws)` gives an ONNX model, inputs for it and the kinds of operators in it: chains of shapes,
tensors whose shapes depend on data, control flow, sequences, float islands, foreign weights; names of every kind;
outputs of any type, declared with and without shapes. The model runs under ONNX Runtime, unoptimized, as it is.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from systolith.sim.reference import unoptimized
from systolith.sim.stimulus.host_parts import control
from systolith.sim.stimulus.host_parts.counts import count_chain
from systolith.sim.stimulus.host_parts.islands import ceil_pool, island
from systolith.sim.stimulus.host_parts.shapes import shape_chain
from systolith.sim.stimulus.host_parts.tensors import HostTensors
from systolith.sim.stimulus.host_parts.weights import foreign_layer, qlinear_layer
from systolith.sim.stimulus.names import renamed
from systolith.sim.stimulus.network import OPSETS, RandomNetwork, random_input
from systolith.sim.stimulus.operators import OPERATORS
from systolith.sim.stimulus.subgraphs import graphs, needed, reads
from systolith.sim.stimulus.tensors import Draws, Quantized

__all__ = ["HOST_OPERATORS", "random_host_network"]

Operator = Callable[[HostTensors, Quantized, Sequence[Quantized]], list[Quantized]]
HOST_OPERATORS: dict[str, tuple[int, Operator]] = {
    "shape_chain": (4, shape_chain), "count_chain": (6, count_chain), "island": (5, island),
    "ceil_pool": (1, ceil_pool), "choice": (2, control.choice), "loop": (2, control.loop), "scan": (1, control.scan),
    "sequence": (1, control.sequence), "foreign_layer": (3, foreign_layer), "qlinear_layer": (1, qlinear_layer),
}  # fmt: skip
"""Operators of which some nodes, or all, are for the host, with how often each is drawn."""
HOST_KINDS = tuple(name for name, (weight, _) in HOST_OPERATORS.items() for _ in range(weight))
LAYERS = ("conv", "conv", "matmul", "gemm", "max_pool", "average_pool", "combine", "concat", "limits", "global_pool",
          "flatten", "with_constant", "conv_transpose", "qlinear", "resize", "pad")  # fmt: skip
"""Operators of the accelerator between them."""

DOMAIN = "local"
"""Of functions of the model."""
NEVER_CALLED = ("Constant", "DequantizeLinear", "QuantizeLinear")


def random_host_network(draws: Draws, largest: int = 6, only: Sequence[str] = ()) -> RandomNetwork:
    """A network of a layer, and of at most that many operators; of host operators only those, if any are given."""
    net = HostTensors(
        draws, OPSETS[draws.integer(0, len(OPSETS) - 1)], np.dtype(["int8", "uint8"][draws.integer(0, 1)])
    )
    tensors = [random_input(net) for _ in range(1 + net.chance(25))]
    kinds = _first_layer(net, tensors)
    for _ in range(net.integer(1, largest)):
        x = tensors[-1] if net.chance(65) else net.choice(tensors[::-1])
        host = net.chance(60) or not set(kinds).intersection(HOST_OPERATORS)
        kind = net.choice(only or HOST_KINDS) if host else net.choice(LAYERS)
        with net.attempt():
            tensors += (HOST_OPERATORS[kind] if host else OPERATORS[kind])[1](net, x, tensors)
            kinds.append(kind)
    if net.chance(5):
        net.free_input(net.rng.normal(size=3))  # Nothing reads it.
    _outputs(net, tensors)
    model = onnx.load_from_string(net.writer.model("network"))
    _declare(net, model)
    _store(net, model)
    _call(net, model)
    inputs = renamed(model, net.inputs, draws) if net.chance(60) else net.inputs
    return RandomNetwork(model.SerializeToString(), inputs, tuple(kinds))


def _first_layer(net: HostTensors, tensors: list[Quantized]) -> list[str]:
    """A layer with weights, so that there is something for the accelerator."""
    kinds = []
    kind = "matmul" if len(tensors[0].shape) == 2 else "conv"
    while not kinds:
        with net.attempt():
            tensors += OPERATORS[kind][1](net, tensors[0], tensors)
            kinds.append(kind)
    return kinds


def _outputs(net: HostTensors, tensors: Sequence[Quantized]) -> None:
    """What no output depends on becomes one; so do some tensors that are read, inputs and constants."""
    for y in reversed(tensors):
        outputs = [port.name for port in net.writer.outputs]
        read = {name for node in needed(net.writer.nodes, outputs) for name in reads(node)}
        if y.name not in net.inputs and (y.name not in {*read, *outputs} or net.chance(15)):
            net.output(y)
    if net.chance(8):
        name = net.choice(list(net.inputs))
        net.reals[name] = net.inputs[name]
        net.result(name)
    if net.chance(8):
        tensor = net.choice(net.writer.initializers)
        net.reals[tensor.name] = onnx.numpy_helper.to_array(tensor)
        net.result(tensor.name)


def _declare(net: HostTensors, model: ModelProto) -> None:
    """Shapes of outputs that were left open: as far as ONNX Runtime knows them, symbolic, or none."""
    known = {port.name: port.shape for port in unoptimized.session(model.SerializeToString()).get_outputs()}
    for port in model.graph.output:
        if port.type.tensor_type.HasField("shape"):
            continue
        rank, found = net.values(port.name).ndim, known[port.name]
        if net.chance(25):
            continue
        dims = port.type.tensor_type.shape
        dims.SetInParent()
        for axis in range(rank):
            dim = dims.dim.add()
            inferred = found[axis] if len(found) == rank else None
            if isinstance(inferred, int) and net.chance(80):
                dim.dim_value = inferred
            else:
                dim.dim_param = f"{port.name}_d{axis}"


def _store(net: HostTensors, model: ModelProto) -> None:
    """Some constants as nodes, some as inputs that have a value; open dimensions; an output that is there twice."""
    graph = model.graph
    outputs = {port.name for port in graph.output}
    constants = [tensor for tensor in graph.initializer if tensor.name not in outputs and net.chance(6)]
    for tensor in constants:
        graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], f"{tensor.name}_node", value=tensor))
        graph.initializer.remove(tensor)
    for port in graph.input:
        dims = port.type.tensor_type.shape.dim
        if len(dims) > 1 and dims[0].dim_value == 1 and net.chance(10):
            dims[0].dim_param = net.choice(["batch", f"{port.name}_n", ""])
    for tensor in graph.initializer:
        if tensor.data_type in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32) and net.chance(2):
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    if net.chance(4):
        graph.output.append(graph.output[net.integer(0, len(graph.output) - 1)])


def _call(net: HostTensors, model: ModelProto) -> None:
    """Some nodes become calls of functions of the model."""
    imports = [opset for opset in model.opset_import if opset.domain == ""]
    for node in model.graph.node:
        plain = not node.domain and "" not in node.input and not any(graphs(node)) and node.op_type not in NEVER_CALLED
        if plain and net.chance(2):
            inputs, outputs = ([f"{kind}{i}" for i in range(len(names))] for kind, names in
                               (("a", node.input), ("b", node.output)))  # fmt: skip
            inner = helper.make_node(node.op_type, inputs, outputs)
            inner.attribute.extend(node.attribute)
            name = f"{node.op_type}Function{len(model.functions)}"
            model.functions.append(helper.make_function(DOMAIN, name, inputs, outputs, [inner], imports))
            node.op_type, node.domain = name, DOMAIN
            del node.attribute[:]
    if model.functions:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
