"""Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Identity, Dropout: another view of a tensor, or of a constant."""

from dataclasses import replace
from math import prod

import numpy as np

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.quantize_linear import constant, integers
from systolith.compiler.frontend.values.tensors import Constant, DequantizedConstant, Tensor, viewed

__all__ = ["dropout", "flatten", "identity", "reshape", "squeeze", "transpose", "unsqueeze"]


def identity(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Identity: the same tensor."""
    node.attributes()
    return _present(node, inputs)


def dropout(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Dropout of a network that is not being trained: the same tensor."""
    node.attributes(ratio=0.5, seed=0)
    training = (*inputs, None, None)[2]
    if training is not None and constant(node, training, "training_mode").any():
        raise node.unsupported("input 'training_mode' must be false")
    return _present(node, inputs)


def flatten(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Flatten: a matrix, split at `axis`."""
    x = _present(node, inputs)
    axis, rank = node.attributes(axis=1)["axis"], len(x.shape)
    if not -rank <= axis <= rank:
        raise node.error(f"attribute 'axis' must be from {-rank} to {rank}, not {axis}")
    axis += rank if axis < 0 else 0
    return _reshaped(node, x, (prod(x.shape[:axis]), prod(x.shape[axis:])))


def reshape(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Reshape to a constant shape; 0 keeps an axis, -1 is what remains."""
    x = _present(node, inputs)
    allow_zero = node.attributes(allowzero=0)["allowzero"]
    wanted = integers(node, inputs[1], "shape")
    if inputs[1] is not None and len(inputs[1].shape) != 1:
        raise node.error(f"input 'shape' must have one dimension, not shape {inputs[1].shape}")
    if allow_zero and 0 in wanted:
        raise node.unsupported("attribute 'allowzero' with a 0 in the shape would make an empty tensor")
    if any(n < -1 or (n == 0 and i >= len(x.shape)) for i, n in enumerate(wanted)) or wanted.count(-1) > 1:
        raise node.error(f"input 'shape' must be sizes, 0 to keep one, at most one -1, not {wanted}")
    shape = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    known = prod(n for n in shape if n != -1)
    if not known:
        raise node.unsupported(f"shape must not be empty, as {x.shape} to {wanted} is")
    shape = [prod(x.shape) // known if n == -1 else n for n in shape]
    if prod(shape) != prod(x.shape):
        raise node.error(f"input 'shape' must keep the {prod(x.shape)} elements of {x.shape}, not {wanted}")
    return _reshaped(node, x, tuple(shape))


def squeeze(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Squeeze: axes of size 1 go."""
    x = _present(node, inputs)
    axes = _axes(node, inputs, len(x.shape))
    if axes is None:
        axes = {i for i, n in enumerate(x.shape) if n == 1}
    if any(x.shape[i] != 1 for i in axes):
        raise node.error(f"axes must have size 1, not {[x.shape[i] for i in sorted(axes)]}")
    return _reshaped(node, x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def unsqueeze(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Unsqueeze: axes of size 1 come."""
    x = _present(node, inputs)
    count = len(integers(node, inputs[1], "axes")) if node.opset >= 13 else len(node.attributes(axes=())["axes"])
    axes = _axes(node, inputs, len(x.shape) + count) or set()
    sizes = iter(x.shape)
    return _reshaped(node, x, tuple(1 if i in axes else next(sizes) for i in range(len(x.shape) + len(axes))))


def transpose(node: Node, inputs: list[Tensor | None]) -> Tensor:
    """Transpose: the axes in another order."""
    x = _present(node, inputs)
    rank = len(x.shape)
    order = node.attributes(perm=())["perm"] or tuple(reversed(range(rank)))
    if sorted(order) != list(range(rank)):
        raise node.error(f"attribute 'perm' must be a permutation of {rank} axes, not {list(order)}")
    if isinstance(x, Constant):
        return Constant(np.transpose(x.values, order))
    if isinstance(x, DequantizedConstant):
        return replace(x, values=np.transpose(x.values, order), axis=order.index(x.axis) if rank else 0)
    return viewed(x, x.view.transpose(order))


def _axes(node: Node, inputs: list[Tensor | None], rank: int) -> set[int] | None:
    """Axes from the attribute (before opset 13) or from the second input."""
    if node.opset < 13:
        values = node.attributes(axes=())["axes"] or None
    else:
        node.attributes()
        values = None if len(inputs) < 2 or inputs[1] is None else tuple(integers(node, inputs[1], "axes"))
    if values is None:
        return None
    axes = {int(axis) + (rank if axis < 0 else 0) for axis in values}
    if len(axes) != len(values) or any(not 0 <= axis < rank for axis in axes):
        raise node.error(f"axes must be different and from {-rank} to {rank - 1}, not {[int(v) for v in values]}")
    return axes


def _reshaped(node: Node, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    if isinstance(x, Constant):
        return Constant(x.values.reshape(shape))
    if isinstance(x, DequantizedConstant):
        axis = _kept(x.shape, x.axis, shape) if x.scale.ndim else 0
        if axis is None:
            return Constant(x.real.reshape(shape))
        return replace(x, values=x.values.reshape(shape), axis=axis)
    view = x.view.reshape(shape)
    if view is None:
        raise node.unsupported(f"shape {x.shape} to {shape} must be a change of view; this one moves data")
    return viewed(x, view)


def _kept(shape: tuple[int, ...], axis: int, other: tuple[int, ...]) -> int | None:
    """The axis of the `other` shape that is this one, None where there is none."""
    found = [i for i, n in enumerate(other) if n == shape[axis] and prod(other[:i]) == prod(shape[:axis])]
    return found[0] if found else None


def _present(node: Node, inputs: list[Tensor | None]) -> Tensor:
    if inputs[0] is None:
        raise node.error("input 0 must be there")
    return inputs[0]
