"""Layout of a value: word strides from the start of the tensor that holds it, in channel blocks.

A tensor is [batch][channel block][row][column] of words of `array` channels. A value inside another value has the
strides of that one; its first channel must be the first of a block.
"""

from dataclasses import dataclass

from systolith.compiler.ir.graph import Graph, Value
from systolith.errors import SystolithError

__all__ = ["Layout", "Strides", "blocks_of", "layout_of", "root_of", "words_of"]


@dataclass(frozen=True)
class Strides:
    """Words from one image, channel block, row or column of a tensor to the next."""

    image: int
    block: int
    row: int
    column: int = 1


@dataclass(frozen=True)
class Layout:
    """`root`: the tensor that holds the value, which lies inside no other; `first`: its word where the value begins."""

    root: str
    first: int
    strides: Strides


def blocks_of(channels: int, array: int) -> int:
    """Channel blocks of a tensor."""
    return -(-channels // array)


def words_of(graph: Graph, name: str, array: int) -> int:
    """Words of a tensor."""
    batch, channels, height, width = graph.values[name].dims
    return batch * blocks_of(channels, array) * height * width


def root_of(graph: Graph, name: str) -> str:
    """The tensor that holds a value: itself, or the outermost one that it lies inside."""
    value = graph.values[name]
    return name if value.inside is None else root_of(graph, value.inside.whole)


def layout_of(graph: Graph, name: str, array: int) -> Layout:
    """Where a value lies. Raises SystolithError for a part that does not begin with a channel block."""
    value = graph.values[name]
    if value.inside is None:
        return Layout(name, 0, _packed(value, array))
    inside = value.inside
    whole = layout_of(graph, inside.whole, array)
    if inside.channel % array:
        raise SystolithError(
            f"Tensor '{name}' must begin with a block of {array} channels of '{inside.whole}', "
            f"not with channel {inside.channel}"
        )
    s = whole.strides
    first = inside.image * s.image + inside.channel // array * s.block + inside.top * s.row + inside.left * s.column
    strides = Strides(s.image, s.block, s.row * inside.step_y, s.column * inside.step_x)
    return Layout(whole.root, whole.first + first, strides)


def _packed(value: Value, array: int) -> Strides:
    _, channels, height, width = value.dims
    return Strides(blocks_of(channels, array) * height * width, height * width, width)
