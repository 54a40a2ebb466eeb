"""Sparse constants of a model become dense ones. The rest of the front end sees no sparse constant."""

from math import prod

import numpy as np
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto, numpy_helper

from systolith.errors import SystolithError
from systolith.stored_models import graphs

__all__ = ["LARGEST", "make_dense"]

LARGEST = 1 << 28
"""Elements of a constant that is made from less."""


def make_dense(model: ModelProto, where: str) -> None:
    """Replace sparse initializers and sparse values of Constants. Raises SystolithError for one that is too large, or
    whose indices are not within it."""
    for graph in list(graphs(model)):  # They change.
        _in_graph(graph, where)


def _in_graph(graph: GraphProto, where: str) -> None:
    graph.initializer.extend(_dense(tensor, where) for tensor in graph.sparse_initializer)
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") and node.op_type == "Constant":
                attribute.t.CopyFrom(_dense(attribute.sparse_tensor, where))
                attribute.ClearField("sparse_tensor")
                attribute.name, attribute.type = "value", attribute.TENSOR


def _dense(tensor: SparseTensorProto, where: str) -> TensorProto:
    name, shape = tensor.values.name, tuple(tensor.dims)
    label = f"{where}: sparse constant '{name}'"
    if min(shape, default=1) < 0 or prod(shape) >= LARGEST:
        raise SystolithError(f"{label} must have fewer than {LARGEST} elements, not shape {shape}")
    try:
        values, indices = numpy_helper.to_array(tensor.values), numpy_helper.to_array(tensor.indices)
        dense = np.zeros(shape, values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (ValueError, IndexError, TypeError) as error:
        raise SystolithError(f"{label} cannot be read: {' '.join(str(error).split())[:200]}") from None
    return numpy_helper.from_array(dense, name)
