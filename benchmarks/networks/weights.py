"""Weights and batch statistics for a topology: random, seeded, and such that activations neither vanish nor explode."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["OPSET", "fill"]

OPSET = 17
"""Of the models here: ReduceMean has its axes as an attribute."""


def fill(model: ModelProto, samples: Mapping[str, NDArray], seed: int) -> ModelProto:
    """The model with weights, and with the statistics of its batch normalizations for `samples` as one batch."""
    return _with_statistics(_with_weights(model, seed), samples)


def _with_weights(model: ModelProto, seed: int) -> ModelProto:
    """The model with random values in every initializer that a layer reads, by what it is to the layer."""
    rng = np.random.default_rng(seed)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    made: dict[str, NDArray[np.float32]] = {}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in shapes and name not in made and (value := _draw(rng, node, position, shapes[name])) is not None:
                made[name] = value
    return _store(model, made)


def _with_statistics(model: ModelProto, samples: Mapping[str, NDArray]) -> ModelProto:
    """The model with each batch normalization's mean and variance those of its input."""
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    if not norms:
        return model
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # The statistics that are to be measured are not read yet.
    probe = _measuring(model).SerializeToString()
    session = onnxruntime.InferenceSession(probe, options, providers=["CPUExecutionProvider"])
    names = [f"{name}/measured" for node in norms for name in node.input[3:5]]
    found = dict(zip(names, session.run(names, dict(samples)), strict=True))
    measured = {name.removesuffix("/measured"): np.asarray(value).reshape(-1) for name, value in found.items()}
    variances = {node.input[4] for node in norms}
    return _store(model, {n: np.maximum(v, 1e-4) if n in variances else v for n, v in measured.items()})


def _draw(rng: np.random.Generator, node: NodeProto, position: int, shape: tuple[int, ...]) -> NDArray | None:
    if node.op_type in ("Conv", "Gemm", "MatMul") and position == 1:
        outputs_last = node.op_type != "Conv" and not any(a.name == "transB" and a.i for a in node.attribute)
        fan_in = shape[0] if outputs_last else int(np.prod(shape[1:]))
        return rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    if node.op_type in ("Conv", "Gemm") and position == 2:
        return rng.normal(0, 0.1, shape).astype(np.float32)
    if node.op_type == "BatchNormalization":
        low, high = {1: (0.7, 1.3), 2: (-0.3, 0.3), 3: (0, 0), 4: (1, 1)}[position]
        return rng.uniform(low, high, shape).astype(np.float32)
    return None


def _measuring(model: ModelProto) -> ModelProto:
    """The model with batch normalizations by the statistics of their inputs, which are outputs named `.../measured`."""
    shapes = onnx.shape_inference.infer_shapes(model).graph
    ranks = {port.name: len(port.type.tensor_type.shape.dim) for port in [*shapes.value_info, *shapes.input]}
    nodes, measured = [], []
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            nodes += _normalization(node, ranks[node.input[0]])
            measured += [f"{name}/measured" for name in node.input[3:5]]
        elif node.op_type == "Dropout":
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
        else:
            nodes.append(node)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in measured]
    graph = helper.make_graph(nodes, "probe", model.graph.input, outputs, model.graph.initializer)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _normalization(node: NodeProto, rank: int) -> list[NodeProto]:
    x, scale, shift, mean, variance = node.input
    axes = [axis for axis in range(rank) if axis != 1]
    name = f"{node.output[0]}/"
    shape = helper.make_node("Constant", [], [name + "shape"], value_ints=[-1] + [1] * (rank - 2))
    return [
        helper.make_node("ReduceMean", [x], [f"{mean}/measured"], axes=axes, keepdims=1),
        helper.make_node("Sub", [x, f"{mean}/measured"], [name + "centered"]),
        helper.make_node("Mul", [name + "centered", name + "centered"], [name + "square"]),
        helper.make_node("ReduceMean", [name + "square"], [f"{variance}/measured"], axes=axes, keepdims=1),
        helper.make_node("Sqrt", [f"{variance}/measured"], [name + "deviation"]),
        helper.make_node("Div", [name + "centered", name + "deviation"], [name + "normal"]),
        shape,
        *(helper.make_node("Reshape", [tensor, name + "shape"], [name + tensor]) for tensor in (scale, shift)),
        helper.make_node("Mul", [name + "normal", name + scale], [name + "scaled"]),
        helper.make_node("Add", [name + "scaled", name + shift], [node.output[0]]),
    ]


def _store(model: ModelProto, values: Mapping[str, NDArray]) -> ModelProto:
    """The model, with initializers replaced by name."""
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name))
    return model
