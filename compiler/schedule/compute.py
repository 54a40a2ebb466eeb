"""EXECUTE and DEPTHWISE steps: sums on the array and on the depthwise unit.

Coordinates are relative to the first input row and column that exist for a tile.
"""

from systolith.compiler.jobs.job import Job, KSlice
from systolith.compiler.plan.tiling import Span
from systolith.compiler.schedule.outputs import Tile
from systolith.compiler.schedule.step import Step

__all__ = ["depthwise", "execute"]

Spans = tuple[Span, Span]
"""Input rows and columns."""


def execute(
    job: Job,
    tile: Tile,
    box: KSlice,
    spans: Spans,
    strides: tuple[int, int],
    act: int,
    weight: int,
    acc: int,
    accumulate: bool,
) -> Step:
    """The K tiles of a box for an output tile. `strides`: words from a row, or a block, of the input to the next."""
    constants = {
        "CONFIG.EXECUTE.input": {
            **_size(spans),
            "row_stride": strides[0],
            "block_stride": strides[1],
            "zero_point": job.pad_value,
        },
        "CONFIG.EXECUTE.kernel": {
            "kernel_y": box.ky[1],
            "kernel_x": box.kx[1],
            "blocks": box.blocks[1],
            **_steps(job),
        },
    }
    fields = {"act": act, "weight": weight, **_where(tile, spans), "acc": acc, "accumulate": int(accumulate)}
    return Step("EXECUTE", fields, constants, job.index)


def depthwise(job: Job, tile: Tile, spans: Spans, row: int, act: int, weight: int, acc: int) -> Step:
    """All taps for an output tile. `row`: words from a row of the input to the next."""
    constants = {
        "CONFIG.DEPTHWISE.input": {**_size(spans), "row_stride": row, "zero_point": job.pad_value},
        "CONFIG.DEPTHWISE.kernel": {"kernel_y": job.kernel[0], "kernel_x": job.kernel[1], **_steps(job)},
    }
    return Step("DEPTHWISE", {"act": act, "weight": weight, **_where(tile, spans), "acc": acc}, constants, job.index)


def _size(spans: Spans) -> dict[str, int]:
    rows, columns = spans
    return {"height": rows.end - rows.first, "width": columns.end - columns.first}


def _where(tile: Tile, spans: Spans) -> dict[str, int]:
    rows, columns = spans
    return {
        "y0": rows.start - rows.first,
        "x0": columns.start - columns.first,
        "rows": tile.rows,
        "cols": tile.cols,
    }


def _steps(job: Job) -> dict[str, int]:
    return {
        "stride_y": job.stride[0],
        "stride_x": job.stride[1],
        "dilation_y": job.dilation[0],
        "dilation_x": job.dilation[1],
    }
