"""Random small quantized networks of all operators that the accelerator runs: the stimulus of whole-network tests.

`random_network(draws)` gives an ONNX model, inputs for it, and the kinds of operators in it: several branches and
outputs, tensors read more than once, QDQ nodes as quantizers write them and as they do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.sim.stimulus.operators import OPERATORS
from systolith.sim.stimulus.tensors import Draws, Quantized, RandomTensors

__all__ = ["OPSETS", "RandomNetwork", "random_input", "random_network"]

OPSETS = (17, 13, 15, 18, 19, 20, 21, 22, 23)
KINDS = tuple(name for name, (weight, _) in OPERATORS.items() for _ in range(weight))


@dataclass(frozen=True)
class RandomNetwork:
    """A model, serialized, inputs for it, and the kinds of its operators."""

    model: bytes
    inputs: dict[str, NDArray]
    kinds: tuple[str, ...]


def random_network(draws: Draws, largest: int = 7, only: Sequence[str] = ()) -> RandomNetwork:
    """A network of at most that many operators; of those kinds only, if any are given."""
    net = RandomTensors(
        draws, OPSETS[draws.integer(0, len(OPSETS) - 1)], np.dtype(["int8", "uint8"][draws.integer(0, 1)])
    )
    tensors = [random_input(net) for _ in range(1 + net.chance(15))]
    read: set[str] = set()
    kinds: list[str] = []
    for _ in range(net.integer(1, largest)):
        x = tensors[-1] if net.chance(60) else net.choice(tensors[::-1])
        kind = net.choice(only or KINDS)
        with net.attempt():
            made = OPERATORS[kind][1](net, x, tensors)
            tensors += made
            kinds.append(kind)
            read |= {name for node in net.writer.nodes for name in node.input}
    if not kinds:
        tensors += OPERATORS["limits"][1](net, tensors[0], [])
        kinds.append("limits")
    made = [tensor for tensor in tensors if tensor.name not in net.inputs]
    for y in made:
        if y.name not in read or net.chance(10):
            net.output(y)
    return RandomNetwork(net.writer.model(), net.inputs, tuple(kinds))


def random_input(net: RandomTensors) -> Quantized:
    """An image mostly; a matrix, or a sequence."""
    batch = net.choice([1, 1, 1, 2, 3])
    match net.integer(0, 9):
        case 8:
            return net.input((batch, net.integer(1, 20)))
        case 9:
            return net.input((batch, net.integer(1, 9), net.integer(1, 9)))
        case _ if net.chance(15):
            return net.input((1, net.integer(1, 40), net.integer(1, 17), net.integer(1, 17)))
        case _:
            return net.input((batch, net.integer(1, 13), net.integer(1, 9), net.integer(1, 9)))
