"""Random network inputs from a seed: for runs without an input file, and for campaigns."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from systolith.network import Network, Signature
from systolith.program import Program, Tensor

__all__ = ["random_inputs"]

BEYOND = 4
"""Steps by which float inputs leave the quantized range, so that saturation is met too."""
NARROW = 10
"""Integers of other types stay below: they may be indices."""
PIECE = 1 << 20


def random_inputs(network: Program | Network, seed: int) -> dict[str, NDArray]:
    """An array for each input, by name: over its whole quantized range where the accelerator reads it."""
    rng = np.random.default_rng(seed)
    programs = network.programs if isinstance(network, Network) else (network,)
    tensors = {tensor.name: tensor for program in programs for tensor in program.inputs}
    return {port.name: _random(tensors.get(port.name, port), rng) for port in network.inputs}


def _random(port: Tensor | Signature, rng: np.random.Generator) -> NDArray:
    """Drawn piece by piece: numbers as they are drawn take eight times the memory of those of 8 bits."""
    shape = tuple(1 if size is None else size for size in port.shape or ())
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
