"""What a host does around the accelerator: quantizes inputs, dequantizes outputs, and brings both into (N, C, H, W).

The same for every backend. `Port` of the graph and `Tensor` of a program both have what these functions read.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from systolith.errors import SystolithError

__all__ = ["HostTensor", "NamedTensor", "Part", "check_inputs", "check_numbers", "dequantize", "from_device",
           "inputs_of", "quantize", "shown", "to_device"]  # fmt: skip


class NamedTensor(Protocol):
    """An input or output by its ONNX name."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int | None, ...] | None: ...
    @property
    def dtype(self) -> str: ...


class HostTensor(NamedTensor, Protocol):
    """One that the host quantizes or dequantizes, and brings into the accelerator's order of axes."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def order(self) -> tuple[int, ...]: ...
    @property
    def quantized(self) -> str: ...


class Part(Protocol):
    """One of the parts of a network."""

    @property
    def inputs(self) -> Sequence[NamedTensor]: ...


def quantize(values: NDArray[np.float32], scale: float, zero_point: int) -> NDArray[np.int8]:
    """ONNX QuantizeLinear to int8: float32 division, ties to even, saturation. `zero_point` is in the int8 domain."""
    with np.errstate(over="ignore"):  # Infinity saturates.
        rounded = np.rint(np.asarray(values, np.float32) / np.float32(scale))
    return (np.clip(rounded, -512, 512).astype(np.int32) + zero_point).clip(-128, 127).astype(np.int8)


def dequantize(values: NDArray[np.int8], scale: float, zero_point: int) -> NDArray[np.float32]:
    """ONNX DequantizeLinear from int8; the difference is exact, so there is one rounding."""
    with np.errstate(over="ignore"):
        return (values.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def check_inputs(tensors: Iterable[NamedTensor], inputs: Mapping[str, NDArray]) -> None:
    """Raises SystolithError unless `inputs` are those of the network: names, shapes and types."""
    expected = {tensor.name: tensor for tensor in tensors}
    if missing := expected.keys() - inputs.keys():
        raise SystolithError(f"Inputs must have {_names(expected)}; {_names(missing)} is missing")
    if unknown := inputs.keys() - expected.keys():
        raise SystolithError(f"Inputs must be {_names(expected)}; there is no {_names(unknown)}")
    for name, tensor in expected.items():
        if tensor.dtype.startswith("seq("):
            if not isinstance(inputs[name], list):
                raise SystolithError(f"Input '{name}' must be {tensor.dtype}, a list of arrays")
            continue
        values = np.asarray(inputs[name])
        _check_shape(f"Input '{name}'", tensor, values)
        if values.dtype.kind not in "OU" if tensor.dtype == "str" else values.dtype != np.dtype(tensor.dtype):
            raise SystolithError(f"Input '{name}' must be {tensor.dtype}, not {values.dtype}")


def check_numbers(name: str, values: NDArray) -> None:
    """Raises SystolithError for NaN, which no integer stands for, in an input of the accelerator."""
    if values.dtype == np.float32 and np.isnan(values).any():
        raise SystolithError(f"Input '{name}' must be numbers; it has NaN")


def inputs_of(part: Part, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a part reads. Raises SystolithError for a tensor of another shape than it was compiled for."""
    inputs = {port.name: values[port.name] for port in part.inputs}
    for port in part.inputs:
        _check_shape(f"Tensor '{port.name}'", port, inputs[port.name])
    return inputs


def _check_shape(label: str, port: NamedTensor, values: Any) -> None:
    """Raises SystolithError for another shape; dimensions that are not known may be of any size."""
    if port.shape is None:
        return
    sizes = zip(port.shape, np.shape(values), strict=False)
    if len(port.shape) != np.ndim(values) or any(size not in (None, found) for size, found in sizes):
        raise SystolithError(f"{label} must have shape {shown(port.shape)}, not {np.shape(values)}")


def shown(shape: tuple[int | None, ...]) -> str:
    """A shape as NumPy writes it; a dimension that is not known is a question mark."""
    return str(shape).replace("None", "?")


def to_device(
    values: NDArray, tensor: HostTensor, scale: float, zero_point: int, dims: tuple[int, int, int, int]
) -> NDArray[np.int8]:
    """A checked input as int8 of `dims` (batch, channels, height, width). Raises SystolithError for NaN."""
    check_numbers(tensor.name, values)
    if tensor.dtype == "float32":
        values = quantize(values, scale, zero_point)
    elif tensor.dtype == "uint8":
        values = (values ^ np.uint8(0x80)).view(np.int8)
    return np.ascontiguousarray(np.transpose(values, tensor.order).reshape(dims))


def from_device(values: NDArray[np.int8], tensor: HostTensor, scale: float, zero_point: int) -> NDArray:
    """int8 of (batch, channels, height, width) as the output that the user sees."""
    transposed = np.reshape(values, [tensor.shape[axis] for axis in tensor.order])
    values = np.asarray(np.transpose(transposed, np.argsort(tensor.order)), order="C")  # Of no axes, too.
    if tensor.dtype == "float32":
        return np.asarray(dequantize(values, scale, zero_point))
    return np.asarray(values.view(np.uint8) ^ np.uint8(0x80)) if tensor.dtype == "uint8" else values


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "none"
