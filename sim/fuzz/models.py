"""Sound models to start from: most kinds of nodes, host parts between, subgraphs, random networks and layers."""

from collections.abc import Callable
from functools import cache

import numpy as np
from onnx import TensorProto, helper

from systolith.sim.stimulus.layers import random_layer
from systolith.sim.stimulus.model_writer import ModelWriter
from systolith.sim.stimulus.network import random_network
from systolith.sim.stimulus.tensors import SeededDraws

__all__ = ["COUNT", "mixed", "parts", "seed_model"]

RANDOM = 6
"""Random networks, and layers."""


def mixed() -> bytes:
    """A small network with most kinds of nodes."""
    rng = np.random.default_rng(1)
    w = ModelWriter(17)

    def ints(*numbers: int) -> str:
        return w.constant(np.array(numbers, np.int64))

    def conv(x: str, op: str, *shape: int, **attributes) -> str:
        kernel = w.dequantize(w.constant(rng.integers(-99, 99, shape).astype(np.int8)), 0.01, np.int8(0))
        bias = w.dequantize(w.constant(rng.integers(-99, 99, 4).astype(np.int32)),
                            np.float32(0.1) * np.float32(0.01), np.int32(0))  # fmt: skip
        return w.node(op, [x, kernel, bias], **attributes)

    def again(x: str, scale: float = 0.1) -> str:
        return w.dequantize(w.quantize(x, scale, np.uint8(99)), scale, np.uint8(99))

    x = w.dequantize(w.input("x", np.uint8, (1, 4, 6, 6)), 0.1, np.uint8(99))
    y = again(w.node("Relu", [conv(x, "Conv", 4, 2, 3, 3, group=2, pads=[1, 1, 1, 1], kernel_shape=[3, 3])]))
    up = again(conv(y, "ConvTranspose", 4, 4, 2, 2, strides=[2, 2]))
    near = w.node("Resize", [y, "", w.constant(np.array([1, 1, 2, 2], np.float32))],
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    y = again(w.node("Concat", [up, again(near, 0.2)], axis=1), 0.3)
    y = w.node("Transpose", [w.node("Reshape", [y, ints(1, 2, 4, 12, 12)])], perm=[0, 2, 1, 3, 4])
    y = w.node("Pad", [w.node("Reshape", [y, ints(1, 8, 12, 12)]), ints(0, 0, 1, 0, 0, 0, 0, 2)])
    y = w.node("Slice", [y, ints(1, 0), ints(5, 12), ints(1, 2), ints(1, 2)])
    y = again(w.node("MaxPool", [y], kernel_shape=[2, 3], strides=[2, 2]), 0.3)
    y = again(w.node("Add", [y, w.node("Sigmoid", [y])]))
    y = w.node("Reshape", [y, w.node("Concat", [w.node("Gather", [w.node("Shape", [y]), ints(0)]), ints(-1)], axis=0)])
    kernel = w.dequantize(w.constant(rng.integers(-99, 99, (72, 5)).astype(np.int8)), 0.01, np.int8(0))
    w.output(w.quantize(w.node("Gemm", [y, kernel]), 0.5, np.uint8(3)), np.uint8, (1, 5))
    return w.model("mixed")


def parts() -> bytes:
    """Convolutions with a Softmax, and a choice between two graphs, for the host between them."""
    rng = np.random.default_rng(2)
    w = ModelWriter(17)
    shape = [1, 4, 5, 5]

    def conv(x: str) -> str:
        kernel = w.dequantize(w.constant(rng.integers(-99, 99, (4, 4, 3, 3)).astype(np.int8)), 0.01, np.int8(0))
        return small(w.node("Conv", [w.dequantize(x, 0.05, np.int8(3)), kernel], pads=[1, 1, 1, 1]))

    def small(x: str) -> str:
        return w.quantize(x, 0.05, np.int8(3))

    x = conv(small(w.input("x", np.float32, shape)))
    y = w.node("Softmax", [w.dequantize(x, 0.05, np.int8(3))], axis=1)
    x = conv(small(y))
    branches = [
        helper.make_graph([helper.make_node(op, [y], [f"{op}_out"])], op, [],
                          [helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, shape)])
        for op in ("Sin", "Cos")
    ]  # fmt: skip
    chosen = w.node("If", [w.constant(np.array(True))], then_branch=branches[0], else_branch=branches[1])
    total = w.node("Add", [w.dequantize(x, 0.05, np.int8(3)), w.dequantize(small(chosen), 0.05, np.int8(3))])
    w.output(w.dequantize(conv(small(total)), 0.05, np.int8(3)), np.float32, shape)
    return w.model("parts")


def _network(seed: int) -> bytes:
    return random_network(SeededDraws(np.random.default_rng(seed)), largest=4).model


def _layer(seed: int) -> bytes:
    return random_layer(np.random.default_rng(seed))[0]


MAKERS: tuple[Callable[[], bytes], ...] = (
    mixed, parts,
    *((lambda seed=seed: _network(seed)) for seed in range(RANDOM)),
    *((lambda seed=seed: _layer(seed)) for seed in range(RANDOM)),
)  # fmt: skip
COUNT = len(MAKERS)
"""Models to start from."""


@cache
def seed_model(index: int) -> bytes:
    """One of them."""
    return MAKERS[index]()
