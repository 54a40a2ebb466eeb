"""ReduceMean and ReduceMax over height and width."""

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.pool import average, dequantized, maximum
from systolith.compiler.frontend.operators.quantize_linear import integers
from systolith.compiler.frontend.values.array import Layers, image_roles
from systolith.compiler.frontend.values.images import quantized_part, rebased, same_kind
from systolith.compiler.frontend.values.roles import restride
from systolith.compiler.frontend.values.tensors import PendingSfu, Quantized, Tensor
from systolith.compiler.frontend.values.views import Atom, View, merge
from systolith.compiler.ir.graph import Window

__all__ = ["reduce_max", "reduce_mean"]

HEIGHT, WIDTH = 2, 3


def reduce_mean(node: Node, inputs: list[Tensor | None]) -> PendingSfu:
    """ReduceMean of a dequantized tensor, before its QuantizeLinear."""
    x = dequantized(node, inputs[0])
    return average(node, x, *_reduced(node, x, inputs))


def reduce_max(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """ReduceMax of an 8-bit tensor, or of a dequantized one."""
    x = quantized_part(node, inputs[0])
    return same_kind(inputs[0], maximum(node, x, *_reduced(node, x, inputs), layers))


def _reduced(node: Node, x: Quantized, inputs: list[Tensor | None]) -> tuple[Window, tuple[int, int, int, int], View]:
    """The window, the output's dims and its view."""
    axes, keep = _axes(node, inputs, len(x.shape))
    if x.array.roles is None:
        _bind(node, x, axes)
    dims, view = rebased(node, x)
    roles = image_roles(dims)
    gone = merge(sorted((atom for i in axes for atom in view.axes[i]), key=lambda atom: -atom.stride))
    both, *single = merge([roles[HEIGHT], roles[WIDTH]]), merge([roles[HEIGHT]]), merge([roles[WIDTH]])
    if gone not in (both, *single, ()):
        raise node.unsupported(
            f"axes must be height, width or both of a tensor [batch, channels, height, width], not {axes} of {x.shape}"
        )
    batch, channels, height, width = dims
    kernel_y = height if gone == both or gone == single[0] else 1
    kernel_x = width if gone == both or gone == single[1] else 1
    out = batch, channels, height // kernel_y, width // kernel_x
    kept = View(tuple(() if i in axes else axis for i, axis in enumerate(view.axes)))
    moved = restride(node, kept, roles, image_roles(out))
    view = View(tuple(axis for i, axis in enumerate(moved.axes) if keep or i not in axes))
    return Window((kernel_y, kernel_x)), out, view


def _axes(node: Node, inputs: list[Tensor | None], rank: int) -> tuple[list[int], bool]:
    """Axes to reduce, in order, and whether they stay with size 1."""
    values = node.attributes(axes=(), keepdims=1, noop_with_empty_axes=0)
    axes = values["axes"]
    if len(inputs) > 1 and inputs[1] is not None:
        axes = tuple(integers(node, inputs[1], "axes"))
    if not axes and not values["noop_with_empty_axes"]:
        axes = tuple(range(rank))
    if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
        raise node.error(f"axes must be different and from {-rank} to {rank - 1}, not {list(axes)}")
    return sorted(axis % rank for axis in axes), bool(values["keepdims"])


def _bind(node: Node, x: Quantized, axes: list[int]) -> None:
    """Height and width of a network input are what is reduced, if that leaves batch and one axis of channels."""
    channels = [i for i in range(1, len(x.shape)) if i not in axes]
    if 0 in axes or len(channels) != 1 or len(axes) > 2 or any(len(axis) > 1 for axis in x.view.axes):
        return
    one = Atom(1, 1)
    first, *spatial = ((x.view.axes[i] or (one,))[0] for i in (0, *axes))
    height, width = (one, *spatial)[-2:]
    x.array.bind(node, (first, (x.view.axes[channels[0]] or (one,))[0], height, width))
