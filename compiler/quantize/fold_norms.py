"""Batch normalization behind Gemm becomes part of its weights and bias; behind Conv, ONNX Runtime does that itself."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from systolith.compiler.partition.nodes import reads

__all__ = ["fold_norms", "new_name"]

EPSILON = 1e-5
"""Of BatchNormalization, where it names none."""


def fold_norms(model: ModelProto) -> ModelProto:
    """The model, each BatchNormalization gone that alone reads a Gemm's result; all of their operands constant."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in reads(node))
    readers.update(port.name for port in model.graph.output)
    products = {node.output[0]: node for node in model.graph.node if _is_product(node, stored)}
    kept = []
    for node in model.graph.node:
        product = products.get(node.input[0]) if _is_norm(node, stored) else None
        if product is None or readers[node.input[0]] > 1:
            kept.append(node)
            continue
        scale, shift = _line(node, stored)
        weights = stored[product.input[1]]
        weights = weights * (scale[:, None] if _attribute(product, "transB", 0) else scale)
        bias = shift + (stored[product.input[2]] * scale if len(product.input) > 2 else 0)
        names = [new_name(model, f"{node.output[0]}/{part}") for part in ("weights", "bias")]
        model.graph.initializer.extend(
            numpy_helper.from_array(values.astype(stored[product.input[1]].dtype), name)
            for name, values in zip(names, (weights, bias), strict=True)
        )
        folded = helper.make_node("Gemm", [product.input[0], *names], node.output, product.name)
        folded.attribute.extend(attribute for attribute in product.attribute if attribute.name == "transB")
        kept[kept.index(product)] = folded
    copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def new_name(model: ModelProto, name: str) -> str:
    """The name, with as many strokes behind it as no tensor of the model has."""
    taken = {tensor.name for tensor in (*model.graph.initializer, *model.graph.input)}
    taken.update(name for node in model.graph.node for name in node.output)
    while name in taken:
        name += "'"
    return name


def _is_product(node: NodeProto, stored: dict[str, NDArray]) -> bool:
    plain = all(_attribute(node, name, 1.0) == 1 for name in ("alpha", "beta")) and not _attribute(node, "transA", 0)
    return node.op_type == "Gemm" and plain and all(name in stored for name in node.input[1:])


def _is_norm(node: NodeProto, stored: dict[str, NDArray]) -> bool:
    return (
        node.op_type == "BatchNormalization"
        and len(node.output) == 1
        and not _attribute(node, "training_mode", 0)
        and all(name in stored for name in node.input[1:])
    )


def _line(node: NodeProto, stored: dict[str, NDArray]) -> tuple[NDArray, NDArray]:
    """Factor and summand of each channel."""
    scale, shift, mean, variance = (stored[name].astype(np.float64) for name in node.input[1:])
    factor = scale / np.sqrt(variance + _attribute(node, "epsilon", EPSILON))
    return factor, shift - mean * factor


def _attribute(node: NodeProto, name: str, default: float) -> float:
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)
