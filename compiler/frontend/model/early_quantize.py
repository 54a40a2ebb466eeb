"""Early quantization: a QuantizeLinear behind operators that only move or compare values is done before them.

The result is the same. So a MaxPool, a Concat or a Resize may stand between a layer and its QuantizeLinear, as some
quantizers leave them. Rounding is monotonic: it commutes with a maximum, and with Relu and Clip, whose limits are
rounded alike.
"""

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Key", "early_keys", "key_of"]

Key = tuple[float, int, str]
"""Scale, zero point and type of a QuantizeLinear."""
FIRST = (
    "Clip", "DepthToSpace", "Dropout", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Pad", "ReduceMax",
    "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Operators whose first input is what they move."""


def early_keys(model: ModelProto) -> dict[str, Key]:
    """By the first output of an operator that moves values: with which parameters all that it makes is quantized, if
    that is so."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
            stored[node.output[0]] = node.attribute[0].t
    wanted: dict[str, Key | None] = dict.fromkeys((port.name for port in model.graph.output), None)
    keys: dict[str, Key] = {}
    for node in reversed(model.graph.node):
        outputs = [name for name in node.output if name in wanted]
        key = _agreed(wanted[name] for name in outputs)
        positions = _moved(node)
        if positions and key is not None:
            keys[node.output[0]] = key
        for i, name in enumerate(node.input):
            mine = key if i in positions else None
            if node.op_type == "QuantizeLinear" and i == 0:
                mine = _parameters(node, stored)
            wanted[name] = mine if name not in wanted else _agreed([wanted[name], mine])
    return keys


def key_of(scale: NDArray | None = None, zero_point: NDArray | None = None) -> Key | None:
    """The parameters of a QuantizeLinear, to look up; None unless they are one scale and one 8-bit zero point."""
    if scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
        return None
    if scale.dtype != np.float32 or zero_point.dtype not in (np.int8, np.uint8):
        return None
    return float(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]), zero_point.dtype.name


def _parameters(node: NodeProto, stored: Mapping[str, TensorProto]) -> Key | None:
    """Of a QuantizeLinear with stored parameters, one scale and one zero point."""
    tensors = [stored[name] for name in node.input[1:] if name in stored and prod(stored[name].dims) == 1]
    try:
        arrays = [numpy_helper.to_array(tensor) for tensor in tensors]
    except (ValueError, TypeError, KeyError, NotImplementedError):
        return None  # The walk refuses it by name.
    return key_of(*arrays[:2])


def _agreed(keys: Iterable[Key | None]) -> Key | None:
    found = set(keys)
    return found.pop() if len(found) == 1 else None


def _moved(node: NodeProto) -> tuple[int, ...]:
    """Positions of the inputs that the node moves."""
    if node.op_type == "Concat":
        return tuple(range(len(node.input)))
    modes = [helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name == "mode"]
    if node.op_type == "Resize" and modes not in ([], [b"nearest"]):
        return ()
    return (0,) if node.op_type in FIRST else ()
