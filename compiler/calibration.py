"""Samples for a model, as its user has them: an array for each input, by name, whose first axis counts samples."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto

from systolith.errors import SystolithError

__all__ = ["Samples"]

BATCH = 8
"""Samples at a time where the model leaves the batch open."""


class Samples:
    """Iterates over batches of the size that a model wants, the last one filled up with the last sample.

    `ports` are the model's inputs. Raises SystolithError unless `arrays` are for them; `what` names the arrays.
    """

    def __init__(self, ports: Sequence[ValueInfoProto], arrays: Mapping[str, NDArray], what: str = "Calibration"):
        self.arrays = arrays
        _check_names([port.name for port in ports], list(arrays), what)
        for port in ports:
            _check_array(port, arrays[port.name], what)
        counts = {name: len(values) for name, values in arrays.items()}
        if len(set(counts.values())) > 1:
            raise SystolithError(f"{what} must have as many samples of each input, not {counts}")
        self.count = min(counts.values())
        fixed = {port.type.tensor_type.shape.dim[0].dim_value for port in ports} - {0}
        if len(fixed) > 1:
            raise SystolithError(f"Inputs must have one batch size in common, not {sorted(fixed)}")
        self.batch = fixed.pop() if fixed else min(BATCH, self.count)

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def __iter__(self) -> Iterator[dict[str, NDArray]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, NDArray]:
        chosen = np.minimum(np.arange(index * self.batch, (index + 1) * self.batch), self.count - 1)
        return {name: np.ascontiguousarray(values[chosen]) for name, values in self.arrays.items()}


def _check_names(names: list[str], found: list[str], what: str) -> None:
    if not names:
        raise SystolithError(f"{what} must be for a model with inputs; this one has none")
    expected = ", ".join(f"'{name}'" for name in names)
    for name in names:
        if name not in found:
            raise SystolithError(f"{what} must have an array for each input ({expected}); '{name}' is missing")
    for name in found:
        if name not in names:
            raise SystolithError(
                f"{what} must have arrays for the inputs ({expected}) only; there is no input '{name}'"
            )


def _check_array(port: ValueInfoProto, values: NDArray, what: str) -> None:
    label = f"{what} of input '{port.name}'"
    dims = port.type.tensor_type.shape.dim
    if not dims:
        raise SystolithError(f"{label} must be for an input with a batch dimension; the model's has no shape")
    expected = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type or TensorProto.FLOAT)
    if values.dtype != expected:
        raise SystolithError(f"{label} must be {expected}, not {values.dtype}")
    fits = values.ndim == len(dims) and all(
        dim.dim_value in (0, size) for dim, size in zip(dims[1:], values.shape[1:], strict=True)
    )
    if not fits:
        shape = ", ".join(["samples", *(str(dim.dim_value or dim.dim_param or "?") for dim in dims[1:])])
        raise SystolithError(f"{label} must have shape ({shape}), not {values.shape}")
    if not values.size:
        raise SystolithError(f"{label} must have at least one sample; its shape is {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise SystolithError(f"{label} must be finite numbers; it has NaN or infinity")
