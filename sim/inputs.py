"""Random network inputs from a seed: for runs without an input file, and for campaigns."""

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from systolith.network import HostPart, Network, Signature
from systolith.program import Program, Tensor
from systolith.sim.input_ranges import Values, input_ranges

__all__ = ["random_inputs"]

BEYOND = 4
"""Steps by which float inputs leave the quantized range, so that saturation is met too."""
NARROW = 10
"""Integers of other types stay below."""
PIECE = 1 << 20


def random_inputs(network: Program | Network, seed: int) -> dict[str, NDArray]:
    """An array for each input, by name: over its whole quantized range where the accelerator reads it; an index, a size
    or a count so that the model can run with it."""
    rng = np.random.default_rng(seed)
    programs = network.programs if isinstance(network, Network) else (network,)
    tensors = {tensor.name: tensor for program in programs for tensor in program.inputs}
    ranges = _ranges(network) if isinstance(network, Network) else {}
    return {
        port.name: _certain(port, ranges[port.name], rng)
        if port.name in ranges and port.name not in tensors
        else _random(tensors.get(port.name, port), rng)
        for port in network.inputs
    }


def _ranges(network: Network) -> Mapping[str, Values]:
    """The integers that inputs of the host must have."""
    ports = [*network.inputs, *network.outputs]
    for part in network.parts:
        ports += [*part.inputs, *part.outputs] if isinstance(part, HostPart) else []
    return input_ranges(onnx.load_model_from_string(network.model), {port.name: _sizes(port) for port in ports})


def _sizes(port: Tensor | Signature) -> tuple[int, ...]:
    """The shape; of dimensions that are open, 1."""
    return tuple(1 if size is None else size for size in port.shape or ())


def _certain(port: Tensor | Signature, values: Values, rng: np.random.Generator) -> NDArray:
    if isinstance(values, list):
        return np.array(values, port.dtype).reshape(_sizes(port))
    if np.dtype(port.dtype).kind not in "iuf":
        return _random(port, rng)
    return rng.integers(values[0], values[1] + 1, _sizes(port)).astype(port.dtype)


def _random(port: Tensor | Signature, rng: np.random.Generator) -> NDArray:
    """Drawn piece by piece: numbers as they are drawn take eight times the memory of those of 8 bits."""
    shape = _sizes(port)
    values = np.empty(prod(shape), port.dtype)
    for start in range(0, values.size, PIECE):
        piece = values[start : start + PIECE]
        piece[:] = _drawn(port, piece.size, rng)
    return values.reshape(shape)


def _drawn(port: Tensor | Signature, count: int, rng: np.random.Generator) -> NDArray:
    if port.dtype in ("int8", "uint8"):
        limits = np.iinfo(port.dtype)
        return rng.integers(limits.min, limits.max + 1, count)
    if isinstance(port, Tensor):
        limits = np.iinfo(port.quantized)
        steps = rng.uniform(limits.min - BEYOND, limits.max + BEYOND, count) - port.zero_point
        return steps * port.scale
    if np.dtype(port.dtype).kind == "f":
        return rng.normal(size=count)
    return rng.integers(0, 2 if port.dtype == "bool" else NARROW, count)
