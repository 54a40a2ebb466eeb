"""Random network inputs from a seed: for runs without an input file, and for campaigns."""

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from systolith.errors import SystolithError
from systolith.network import HostPart, Network, Signature
from systolith.program import Program, Tensor
from systolith.sim.stimulus.input_ranges import Values, input_ranges

__all__ = ["random_inputs"]

BEYOND = 4
"""Steps by which float inputs leave the quantized range, so that saturation is met too."""
NARROW = 10
"""Integers of other types stay below."""
PIECE = 1 << 20


def random_inputs(network: Program | Network, seed: int) -> dict[str, NDArray]:
    """An array for each input, by name: over its whole quantized range where the accelerator reads it; an index, a size
    or a count so that the model can run with it. Dimensions that are not known are 1. Raises SystolithError for what is
    no tensor."""
    rng = np.random.default_rng(seed)
    programs = network.programs if isinstance(network, Network) else (network,)
    tensors = {tensor.name: tensor for program in programs for tensor in program.inputs}
    ranges = _ranges(network) if isinstance(network, Network) else {}
    return {
        port.name: _random(tensors.get(port.name, port), rng, None if port.name in tensors else ranges.get(port.name))
        for port in network.inputs
    }


def _ranges(network: Network) -> Mapping[str, Values]:
    """The integers that inputs of the host must have."""
    ports = [*network.outputs]
    for part in network.parts:
        ports += [*part.inputs, *part.outputs] if isinstance(part, HostPart) else []
    shapes = {port.name: port.shape for port in ports if port.shape is not None}
    return input_ranges(
        onnx.load_model_from_string(network.model), shapes | {p.name: _shape(p) for p in network.inputs}
    )


def _shape(port: Tensor | Signature) -> tuple[int, ...]:
    return tuple(1 if size is None else size for size in port.shape or ())


def _random(port: Tensor | Signature, rng: np.random.Generator, certain: Values | None) -> NDArray:
    """Drawn piece by piece: numbers as they are drawn take eight times the memory of those of 8 bits."""
    if "(" in port.dtype:
        raise SystolithError(f"Input '{port.name}' must be given: {port.dtype} is not drawn at random")
    if isinstance(certain, list):
        return np.array(certain, port.dtype).reshape(_shape(port))
    if port.dtype == "str":
        return rng.choice(list("abc"), _shape(port)).astype(object)
    values = np.empty(prod(_shape(port)), port.dtype)
    for start in range(0, values.size, PIECE):
        piece = values[start : start + PIECE]
        piece[:] = _drawn(port, piece.size, rng, certain)
    return values.reshape(_shape(port))


def _drawn(port: Tensor | Signature, count: int, rng: np.random.Generator, certain: tuple[int, int] | None) -> NDArray:
    if certain is not None and port.dtype != "bool":
        return rng.integers(certain[0], certain[1] + 1, count)
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
