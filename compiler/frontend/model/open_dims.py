"""Open dimensions of a file: by a name, by nothing or, as paddle2onnx does, by -1. The batch takes first ones.

0 is a size: that of a tensor without elements.
"""

from collections.abc import Collection, Iterator

from onnx import ModelProto, TensorShapeProto, ValueInfoProto

from systolith.errors import SystolithError
from systolith.stored_models import graphs

__all__ = ["check_batch", "fixed_batch", "is_open", "with_open_dims"]


def with_open_dims(model: ModelProto) -> ModelProto:
    """The model with neither size nor name where its tensors have a negative dimension: in inputs, outputs and inferred
    types, those of graphs inside nodes as well. A copy if there are any."""
    if not any(True for _ in _negative(model)):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for dim in list(_negative(copy)):
        dim.Clear()
    return copy


def is_open(port: ValueInfoProto) -> bool:
    """Whether an input leaves its first dimension open."""
    return any(not dim.HasField("dim_value") for dim in port.type.tensor_type.shape.dim[:1])


def check_batch(model: ModelProto, where: str, batch: int) -> None:
    """Raises SystolithError for a batch that is none, or that no input leaves open."""
    if batch < 1:
        raise SystolithError(f"{where}: batch must be at least 1, not {batch}")
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in stored and port.type.tensor_type.shape.dim]
    if batch == 1 or any(is_open(port) for port in inputs):
        return
    for port in inputs:
        size = port.type.tensor_type.shape.dim[0].dim_value
        if size != batch:
            raise SystolithError(
                f"{where}: input '{port.name}' has batch {size} fixed in the file; batch must be that, not {batch}"
            )


def fixed_batch(model: ModelProto, batch: int, left_open: Collection[str] = ()) -> ModelProto:
    """A copy with `batch` where the first dimension of an input is open, but for inputs `left_open`, and without shapes
    inferred before."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for port in fixed.graph.input:
        if is_open(port) and port.name not in left_open:
            port.type.tensor_type.shape.dim[0].dim_value = batch
    del fixed.graph.value_info[:]
    return fixed


def _negative(model: ModelProto) -> Iterator[TensorShapeProto.Dimension]:
    for port in (port for graph in graphs(model) for port in (*graph.input, *graph.output, *graph.value_info)):
        yield from (dim for dim in port.type.tensor_type.shape.dim if dim.HasField("dim_value") and dim.dim_value < 0)
