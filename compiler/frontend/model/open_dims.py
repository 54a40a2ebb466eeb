"""Open dimensions that a file gives as a number: exporters write -1, and some of them 0 for the batch."""

from collections.abc import Iterator

from onnx import ModelProto, TensorShapeProto

from systolith.stored_models import graphs

__all__ = ["with_open_dims"]


def with_open_dims(model: ModelProto) -> ModelProto:
    """The model with neither size nor name where its tensors have a negative dimension, or 0 as the first one: in
    inputs, outputs and inferred types, those of graphs inside nodes as well. A copy if there are any."""
    if not any(True for _ in _open(model)):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for dim in list(_open(copy)):
        dim.Clear()
    return copy


def _open(model: ModelProto) -> Iterator[TensorShapeProto.Dimension]:
    for port in (port for graph in graphs(model) for port in (*graph.input, *graph.output, *graph.value_info)):
        for i, dim in enumerate(port.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and (dim.dim_value < 0 or (dim.dim_value == 0 and i == 0)):
                yield dim
