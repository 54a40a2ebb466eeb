"""Common source of tensors: one tensor further back of which all of them are functions, through Q and DQ nodes.
 Example: x * sigmoid(x), where sigmoid(x) is quantized, is a function of x as well, and so a table. It takes one pass
and no second operand. ONNX Runtime fills the table from all the nodes, and rounds where the model rounds.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import helper

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Array, shift
from systolith.compiler.frontend.values.tensors import Dequantized, Function, Tensor
from systolith.errors import UnsupportedError

__all__ = ["leaf_of", "on_one_leaf"]

OPSET = 17
"""Of the QuantizeLinear and DequantizeLinear between two functions."""


def leaf_of(x: Dequantized | Function) -> Dequantized:
    """The quantized tensor of which it is a function."""
    return x if isinstance(x, Dequantized) else x.leaf


def on_one_leaf(inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The inputs of a node, those that are quantized tensors or functions of one all as functions of the same, if there
    is one, and they show its elements alike."""
    variable = [x for x in inputs if isinstance(x, Dequantized | Function)]
    chains = [_chain(leaf_of(x)) for x in variable]
    if len({chain[0].quantized.array for chain in chains}) < 2 or len({x.view for x in variable}) > 1:
        return list(inputs)
    common = set.intersection(*({leaf.quantized.array for leaf in chain} for chain in chains))
    nearest = next((leaf.quantized.array for leaf in chains[0] if leaf.quantized.array in common), None)
    try:
        return [_moved(x, nearest) if nearest and isinstance(x, Dequantized | Function) else x for x in inputs]
    except UnsupportedError:  # Together they would be too long.
        return list(inputs)


def _chain(leaf: Dequantized) -> list[Dequantized]:
    """The tensor, what it is a table of, what that is a table of, and so on."""
    chain = [leaf]
    while (made_of := chain[-1].quantized.array.function) is not None:
        chain.append(made_of.leaf)
    return chain


def _moved(x: Dequantized | Function, array: Array) -> Dequantized | Function:
    """The same values as a function of a tensor further back in its chain."""
    if leaf_of(x).quantized.array is array:
        return x
    if isinstance(x, Function):
        arguments = tuple(_moved(a, array) if isinstance(a, Dequantized | Function) else a for a in x.arguments)
        leaf = next(leaf_of(a) for a in arguments if isinstance(a, Dequantized | Function))
        return replace(x, leaf=leaf, arguments=arguments)
    source = x.quantized.array
    assert source.function is not None and source.scale is not None and source.zero_point is not None
    inner = _moved(source.function, array)
    zero_point = np.array(source.zero_point + shift(x.quantized.dtype), x.quantized.dtype)
    for op in ("QuantizeLinear", "DequantizeLinear"):
        proto = helper.make_node(op, ["x", "scale", "zero_point"], [source.name])
        node = Node(proto, source.function.node.where, OPSET)
        inner = Function(node, leaf_of(inner), (inner, np.array(source.scale), zero_point), x.view)
    return inner
