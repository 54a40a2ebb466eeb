"""Random network inputs from a seed: for runs without an input file, and for campaigns."""

import numpy as np
from numpy.typing import NDArray

from systolith.program import Program, Tensor

__all__ = ["random_inputs"]

BEYOND = 4
"""Steps by which float inputs leave the quantized range, so that saturation is met too."""


def random_inputs(program: Program, seed: int) -> dict[str, NDArray]:
    """An array for each input of the program, by name, over its whole quantized range."""
    rng = np.random.default_rng(seed)
    return {tensor.name: _random(tensor, rng) for tensor in program.inputs}


def _random(tensor: Tensor, rng: np.random.Generator) -> NDArray:
    limits = np.iinfo(tensor.quantized)
    if tensor.dtype != "float32":
        return rng.integers(limits.min, limits.max + 1, tensor.shape).astype(tensor.dtype)
    steps = rng.uniform(limits.min - BEYOND, limits.max + BEYOND, tensor.shape) - tensor.zero_point
    return (steps * tensor.scale).astype(np.float32)
