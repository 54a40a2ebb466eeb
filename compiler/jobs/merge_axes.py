"""Merging of axes: batch or columns of a job become rows, where pixels are independent and only strides change."""

from dataclasses import dataclass, replace

from systolith.compiler.jobs.job import Operand
from systolith.compiler.layout.layout import Strides

__all__ = ["Folded", "fold"]


@dataclass(frozen=True)
class Folded:
    """The loops of a job and the layouts they go over."""

    images: int
    height: int
    width: int
    rows: int
    cols: int
    source: Strides
    target: Strides
    operand: Operand | None


def fold(shape: Folded, array: int) -> Folded:
    """Images too small to fill the array become one row each of a single image; one line of pixels, as a matrix is,
    becomes a column, which is cut into small first and last tiles."""
    if shape.images > 1 and shape.height * shape.width < array and _lines(shape):
        return _images_to_rows(shape)
    return _columns_to_rows(shape) if shape.height == 1 else shape


def _lines(shape: Folded) -> bool:
    """Whether the pixels of an image are neighbours, everywhere."""
    operand = shape.operand
    if operand and (operand.strides.row, operand.strides.column) not in (
        (0, 0),
        (shape.width if shape.height > 1 else 0, 1),
    ):
        return False
    return all(
        (shape.width == 1 or strides.column == 1) and (shape.height == 1 or strides.row == shape.width)
        for strides in (shape.source, shape.target)
    )


def _images_to_rows(shape: Folded) -> Folded:
    def rows(strides: Strides) -> Strides:
        return Strides(0, strides.block, strides.image, 1)

    operand = shape.operand
    if operand:
        column = 0 if operand.strides.column == operand.strides.row == 0 else 1
        operand = replace(operand, strides=replace(rows(operand.strides), column=column))
    count = shape.height * shape.width
    return Folded(1, shape.images, count, shape.images, count, rows(shape.source), rows(shape.target), operand)


def _columns_to_rows(shape: Folded) -> Folded:
    def rows(strides: Strides) -> Strides:
        return Strides(strides.image, strides.block, strides.column, 1)

    operand = shape.operand
    if operand:
        operand = replace(operand, strides=replace(rows(operand.strides), column=0))
    return Folded(shape.images, shape.width, 1, shape.cols, 1, rows(shape.source), rows(shape.target), operand)
