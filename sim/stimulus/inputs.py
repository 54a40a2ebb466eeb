"""Random network inputs from a seed: for runs without an input file, and for campaigns."""

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from systolith.compiler.frontend.model.open_dims import is_open
from systolith.errors import SystolithError
from systolith.network import HostPart, Network, Signature
from systolith.program import Program, Tensor
from systolith.program_rules import LARGEST_VALUES
from systolith.sim.stimulus.input_ranges import Values, input_ranges

__all__ = ["random_inputs"]

BEYOND = 4
"""Steps by which float inputs leave the quantized range, so that saturation is met too."""
NARROW = 10
"""Integers of other types stay below."""
PIECE = 1 << 20


def random_inputs(network: Program | Network, seed: int) -> dict[str, NDArray]:
    """An array for each input, by name: over its whole quantized range where the accelerator reads it; an index, a size
    or a count so that the model can run with it. Of dimensions that are not known, first ones are as long as the batch,
    others 1. Raises SystolithError for what is no tensor."""
    rng = np.random.default_rng(seed)
    tensors = {tensor.name: tensor for program in network.programs for tensor in program.inputs}
    shapes = _shapes(network)
    ranges = _ranges(network, shapes) if isinstance(network, Network) else {}
    return {
        port.name: _random(tensors.get(port.name, port), shapes[port.name], rng,
                           None if port.name in tensors else ranges.get(port.name))
        for port in network.inputs
    }  # fmt: skip


def _shapes(network: Program | Network) -> dict[str, tuple[int, ...]]:
    """Those of the inputs. The batch is what an input has where the model leaves its first dimension open."""
    free = {port.name for port in onnx.load_model_from_string(network.model).graph.input if is_open(port)}
    sizes = (port.shape[0] for port in network.inputs if port.name in free and port.shape)
    first = next((size for size in sizes if size is not None), 1)
    shapes = {
        port.name: tuple((1 if i else first) if size is None else size for i, size in enumerate(port.shape or ()))
        for port in network.inputs
    }
    count = sum(map(prod, shapes.values()))
    if count > LARGEST_VALUES:
        raise SystolithError(
            f"Inputs must have at most {LARGEST_VALUES} elements together to be drawn at random, not {count}"
        )
    return shapes


def _ranges(network: Network, inputs: Mapping[str, tuple[int, ...]]) -> Mapping[str, Values]:
    """The integers that inputs of the host must have, those of these shapes."""
    ports = [*network.outputs]
    for part in network.parts:
        ports += [*part.inputs, *part.outputs] if isinstance(part, HostPart) else []
    shapes = {port.name: port.shape for port in ports if port.shape is not None}
    return input_ranges(onnx.load_model_from_string(network.model), {**shapes, **inputs})


def _random(
    port: Tensor | Signature, shape: tuple[int, ...], rng: np.random.Generator, certain: Values | None
) -> NDArray:
    """Drawn piece by piece: numbers as they are drawn take eight times the memory of those of 8 bits."""
    if "(" in port.dtype:
        raise SystolithError(f"Input '{port.name}' must be given: {port.dtype} is not drawn at random")
    if isinstance(certain, list):
        return np.array(certain, port.dtype).reshape(shape)
    if port.dtype == "str":
        return rng.choice(list("abc"), shape).astype(object)
    values = np.empty(prod(shape), port.dtype)
    for start in range(0, values.size, PIECE):
        piece = values[start : start + PIECE]
        piece[:] = _drawn(port, piece.size, rng, certain)
    return values.reshape(shape)


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
