"""Random chains of operators that move data, between random Transposes and Reshapes: bit-equal to ONNX Runtime."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from systolith.compiler.frontend.importer import import_model
from systolith.errors import SystolithError, UnsupportedError
from systolith.sim.golden import golden
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter
from tests.support.seeds import each_seed, many

SCALE, ZERO = np.float32(0.05), np.int8(-9)
LARGEST = 3000
"""Elements of a tensor."""


class Chain:
    """Adds random nodes to a tensor; its shape is found by NumPy as it goes."""

    def __init__(self, rng: np.random.Generator, integers: bool):
        self.rng, self.integers, self.writer = rng, integers, ModelWriter(17)
        self.array: NDArray[np.int8] = np.zeros(rng.integers(1, 7, 4).tolist(), np.int8)
        x = self.writer.input("x", np.int8, self.array.shape)
        self.name = x if integers else self.writer.dequantize(x, SCALE, ZERO)
        if rng.random() < 0.5:
            self.convolution()

    def ints(self, numbers) -> str:
        return self.writer.constant(np.array(numbers, np.int64))

    def step(self) -> None:
        kinds = [self.concat, self.gather, self.pad, self.requantize, self.reshape, self.shuffle, self.slice,
                 self.split, self.transpose, self.transpose, self.resize, self.convolution]  # fmt: skip
        kinds[int(self.rng.integers(0, len(kinds)))]()

    def convolution(self) -> None:
        """A convolution of 1x1, whose output has dims of its own; only of images."""
        if self.array.ndim != 4:
            return
        real = self.writer.dequantize(self.name, SCALE, ZERO) if self.integers else self.name
        w = self.rng.integers(-9, 10, (int(self.rng.integers(1, 9)), self.array.shape[1], 1, 1)).astype(np.int8)
        y = self.writer.node("Conv", [real, self.writer.dequantize(self.writer.constant(w), 0.0973, np.int8(0))])
        y = self.writer.quantize(y, SCALE, ZERO)
        self.name = y if self.integers else self.writer.dequantize(y, SCALE, ZERO)
        self.array = np.zeros((self.array.shape[0], len(w), *self.array.shape[2:]), np.int8)

    def concat(self) -> None:
        axis = int(self.rng.integers(0, self.array.ndim))
        if self.array.size * 2 < LARGEST:
            self.name = self.writer.node("Concat", [self.name, self.name], axis=axis)
            self.array = np.concatenate([self.array, self.array], axis)

    def gather(self) -> None:
        axis = int(self.rng.integers(0, self.array.ndim))
        size = self.array.shape[axis]
        indices = self.rng.integers(-size, size, self.rng.integers(1, size + 1))
        if self.rng.random() < 0.5:
            indices = np.sort(indices % size)[:2]
        self.name = self.writer.node("Gather", [self.name, self.ints(indices)], axis=axis)
        self.array = np.take(self.array, indices, axis)

    def pad(self) -> None:
        rank = self.array.ndim
        pads = self.rng.integers(-1, 3, (2, rank)) * (self.rng.random((2, rank)) < 0.4)
        value = np.int8(5) if self.integers else np.float32(14) * SCALE
        if min(np.array(self.array.shape) + pads.sum(0)) < 1 or min(np.array(self.array.shape) + pads.min(0)) < 1:
            return
        y = self.writer.node("Pad", [self.name, self.ints(pads.reshape(-1)), self.writer.constant(value)])
        if np.prod(np.array(self.array.shape) + pads.sum(0)) < LARGEST:
            self.name, self.array = y, np.zeros(np.array(self.array.shape) + pads.sum(0), np.int8)

    def requantize(self) -> None:
        """QuantizeLinear and DequantizeLinear as a quantizer writes them between all nodes."""
        if not self.integers:
            self.name = self.writer.dequantize(self.writer.quantize(self.name, SCALE, ZERO), SCALE, ZERO)

    def reshape(self) -> None:
        primes = [p for n in self.array.shape for p in ([2, 2] if n == 4 else [2, 3] if n == 6 else [n])]
        cuts = sorted(self.rng.integers(0, len(primes) + 1, 3))
        shape = [int(np.prod(part)) for part in np.split(np.array(primes, int), cuts)]
        self.name = self.writer.node("Reshape", [self.name, self.ints(shape)])
        self.array = self.array.reshape(shape)

    def resize(self) -> None:
        factors = self.rng.integers(1, 4, self.array.ndim) * (self.rng.random(self.array.ndim) < 0.5)
        factors = np.maximum(factors, 1)
        if self.array.ndim == 4 and self.array.size * np.prod(factors) < LARGEST:
            self.name = self.writer.node(
                "Resize", [self.name, "", self.writer.constant(factors.astype(np.float32))], mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
            self.array = np.zeros(np.array(self.array.shape) * factors, np.int8)

    def shuffle(self) -> None:
        shape = self.array.shape
        if len(shape) != 4 or shape[1] not in (4, 6):
            return
        y = self.writer.node("Reshape", [self.name, self.ints([shape[0], 2, shape[1] // 2, *shape[2:]])])
        y = self.writer.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
        self.name = self.writer.node("Reshape", [y, self.ints(shape)])

    def slice(self) -> None:
        rank = self.array.ndim
        starts = self.rng.integers(0, np.array(self.array.shape) // 2 + 1)
        steps = self.rng.integers(1, 3, rank)
        ends = [int(self.rng.integers(start + 1, n + 2)) for start, n in zip(starts, self.array.shape, strict=True)]
        axes = self.rng.permutation(rank)[: self.rng.integers(1, rank + 1)]
        given = [np.array(numbers)[axes] for numbers in (starts, ends)] + [axes, steps[axes]]
        self.name = self.writer.node("Slice", [self.name, *map(self.ints, given)])
        kept = [slice(None)] * rank
        for axis in axes:
            kept[axis] = slice(int(starts[axis]), ends[axis], int(steps[axis]))
        self.array = self.array[tuple(kept)]

    def split(self) -> None:
        axis = int(self.rng.integers(0, self.array.ndim))
        size = self.array.shape[axis]
        if size < 2:
            return
        first = int(self.rng.integers(1, size))
        names = [f"split_{len(self.writer.nodes)}_{i}" for i in range(2)]
        self.writer.nodes.append(
            helper.make_node("Split", [self.name, self.ints([first, size - first])], names, axis=axis)
        )
        parts = np.split(self.array, [first], axis)
        which = int(self.rng.integers(0, 3))
        if which < 2:
            self.name, self.array = names[which], parts[which]
        else:  # Swapped.
            self.name = self.writer.node("Concat", names[::-1], axis=axis)

    def transpose(self) -> None:
        rank = self.array.ndim
        order = self.rng.permutation(rank) if rank != 4 or self.rng.random() < 0.3 else np.array([0, 2, 3, 1])
        self.name = self.writer.node("Transpose", [self.name], perm=order.tolist())
        self.array = self.array.transpose(order)

    def model(self) -> bytes:
        name = self.name if self.integers else self.writer.quantize(self.name, SCALE, ZERO)
        self.writer.output(name, np.int8, [f"d{i}" for i in range(self.array.ndim)])
        return self.writer.model()


@pytest.mark.parametrize("start", range(0, many(400), 50))
def test_random_chains(start):
    found: Counter[str] = Counter()
    for seed in each_seed(range(start, start + 50)):
        rng = np.random.default_rng(seed)
        chain = Chain(rng, integers=bool(seed % 2))
        while not chain.writer.nodes or rng.random() < 0.75:
            chain.step()
        model = chain.model()
        try:
            graph = import_model(model, f"seed {seed}")
        except UnsupportedError:
            found["for a host"] += 1
            continue
        except SystolithError as error:
            pytest.fail(f"seed {seed}: {error}")
        inputs = {"x": rng.integers(-128, 128, graph.inputs[0].shape).astype(np.int8)}
        (mine,), (theirs,) = golden.run(graph, inputs).values(), reference.run(model, inputs).values()
        np.testing.assert_array_equal(mine, theirs, f"seed {seed}")
        found["equal"] += 1
    print(found)
    assert found["equal"] >= 15
