"""Stored tensors as ONNX Runtime's quantizer takes them: a bias is one number for each output channel, of one layer
alone, and weights have one axis of channels.

ONNX lets a Gemm add anything that broadcasts to its output, and nodes share what is stored. The quantizer fails on the
first, and quantizes the second for one of the nodes, which is wrong for the others.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from systolith.compiler.quantize.fold_norms import new_name

__all__ = ["own_constants"]

BIASED = ("Conv", "ConvTranspose", "Gemm")


def own_constants(model: ModelProto) -> ModelProto:
    """The model, changed in place: each stored bias is one-dimensional, of its layer alone, and times beta, or, where
    it is not the same in each row, an Add behind its Gemm; weights that are quantized along several axes are there
    once for each."""
    _plain_biases(model)
    _own_copies(model)
    return model


def _own_copies(model: ModelProto) -> None:
    """A copy for each way in which a stored tensor is quantized."""
    uses: dict[str, dict[Hashable, list[tuple[NodeProto, int]]]] = defaultdict(lambda: defaultdict(list))
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            uses[name][_use(node, place)].append((node, place))
    for tensor in list(model.graph.initializer):
        for readers in list(uses[tensor.name].values())[1:]:
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = new_name(model, f"{tensor.name}/copy")
            model.graph.initializer.append(copy)
            for node, place in readers:
                node.input[place] = copy.name


def _use(node: NodeProto, place: int) -> Hashable:
    """What decides how a node's input is quantized: the axis of channels, if there is one; a bias has scales of its
    own."""
    if place == 2 and node.op_type in BIASED:
        return ("bias", node.output[0])
    if place != 1 or node.op_type not in (*BIASED, "MatMul"):
        return None
    if node.op_type == "Gemm":
        return 0 if _attributes(node).get("transB", 0) else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}[node.op_type]


def _plain_biases(model: ModelProto) -> None:
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "Gemm" or len(node.input) < 3 or not stored.keys() >= set(node.input[1:]):
            continue
        values = _bias(node, numpy_helper.to_array(stored[node.input[2]]), stored)
        if values is None:
            continue
        name = new_name(model, f"{node.output[0]}/bias")
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        if values.ndim == 1:
            node.input[2] = name
        else:
            output, node.output[0] = node.output[0], new_name(model, f"{node.output[0]}/product")
            del node.input[2]
            model.graph.node.insert(index + 1, helper.make_node("Add", [node.output[0], name], [output], name))


def _bias(node: NodeProto, values: NDArray, stored: Mapping[str, TensorProto]) -> NDArray | None:
    """What a Gemm adds, beta included, which becomes 1: for each channel, or, if not the same in each row, with two
    axes. None if it is so already."""
    attributes = _attributes(node)
    beta = attributes.get("beta", 1.0)
    channels = stored[node.input[1]].dims[0 if attributes.get("transB", 0) else 1]
    if beta == 1 and values.shape == (channels,):
        return None
    kept = [attribute for attribute in node.attribute if attribute.name != "beta"]
    del node.attribute[:]
    node.attribute.extend(kept)
    values = (values * np.float32(beta)).astype(values.dtype)
    if values.ndim == 2 and values.shape[0] > 1:
        return values
    return np.broadcast_to(values.reshape(values.shape[-1:]), (channels,)).copy()


def _attributes(node: NodeProto) -> dict:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
