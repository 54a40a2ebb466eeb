"""Random networks of nodes for both sides, with inputs and outputs of every kind and place."""

import numpy as np
import pytest

from systolith import PRESETS
from systolith.compiler.network import compile_network
from systolith.errors import UnsupportedError
from systolith.network import Network
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs
from tests.support.seeds import each_seed, many, seeds
from tests.support.split_models import IMAGE, STEP, Net

TINY = PRESETS["tiny4"]


class RandomNet(Net):
    """Int8 and float32 tensors of one shape, of which each new node reads some."""

    def __init__(self, seed: int):
        super().__init__(seed)
        self.smalls: list[str] = []
        self.floats_: list[str] = []
        for i in range(self.rng.integers(1, 4)):
            match self.rng.integers(3):
                case 0:
                    self.smalls.append(self.input(f"x{i}", np.int8, IMAGE))
                case 1:
                    x = self.input(f"x{i}", np.uint8, IMAGE)
                    self.floats_.append(self.dequantize(x, STEP, np.uint8(128)))
                case _:
                    self.floats_.append(self.input(f"x{i}", np.float32, IMAGE))
        for _ in range(self.rng.integers(6, 16)):
            self.step()
        names = [(name, np.int8) for name in self.smalls] + [(name, np.float32) for name in self.floats_]
        for i in self.rng.permutation(len(names))[: self.rng.integers(2, 5)]:
            name, dtype = names[i]
            self.output(name, dtype, IMAGE)

    def any_small(self) -> str:
        if self.smalls and (not self.floats_ or self.rng.random() < 0.7):
            return str(self.rng.choice(self.smalls))
        self.smalls.append(self.small(str(self.rng.choice(self.floats_))))
        return self.smalls[-1]

    def any_real(self) -> str:
        if self.floats_ and self.rng.random() < 0.35:
            return str(self.rng.choice(self.floats_))
        return self.real(self.any_small())

    def step(self) -> None:
        small, real = self.any_small, self.any_real
        match self.rng.integers(12):
            case 0 | 1:
                self.smalls.append(self.conv(small()))
            case 2:
                self.smalls.append(self.add(small(), small()))
            case 3:
                self.floats_.append(self.node("Softmax", [real()], axis=int(self.rng.integers(1, 4))))
            case 4:
                self.smalls.append(self.host(small()))
            case 5:
                self.floats_.append(self.node("Add", [real(), real()]))
            case 6:
                self.smalls.append(self.small(self.node("Sigmoid", [real()])))
            case 7:
                self.smalls.append(self.small(self.node("MaxPool", [real()], kernel_shape=[3, 3], pads=[1, 1, 1, 1])))
            case 8:
                self.floats_.append(self.node("Erf", [real()]))
            case 9:
                self.smalls.append(self.node("Identity", [small()]))
            case 10:
                self.smalls.append(self.small(self.node("Mul", [real(), real()])))
            case _:
                self.smalls.append(self.small(self.node("Transpose", [real()], perm=[0, 1, 3, 2])))


@pytest.mark.slow
@seeds(40, each=20)
def test_parts_compute_the_whole(seed):
    model = RandomNet(seed).model()
    try:
        network = compile_network(model, TINY)
    except UnsupportedError as error:
        assert "nothing of it can run on the accelerator" in str(error)
        return
    inputs = random_inputs(network, seed)
    theirs = reference.run(model, inputs)
    outputs, _ = run(network, inputs, TINY, "isa")
    assert [(port.name, port.shape, port.dtype) for port in network.outputs] == [
        (name, values.shape, values.dtype.name) for name, values in theirs.items()
    ]
    assert list(outputs) == list(theirs)
    found = check(network, inputs, outputs)
    assert found.passed, found


def test_most_are_networks_in_parts():
    """What the seeds above make is worth the name."""
    counts = {"parts": 0, "program": 0, "refused": 0}
    for seed in each_seed(range(many(40))):
        try:
            network = compile_network(RandomNet(seed).model(), TINY)
            counts["parts" if isinstance(network, Network) and len(network.parts) > 1 else "program"] += 1
        except UnsupportedError:
            counts["refused"] += 1
    assert counts["parts"] > sum(counts.values()) // 2, counts
