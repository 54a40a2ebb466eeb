"""The row loop of LOAD and STORE: one instruction -> its rows, each with offset, SRAM address and its error, if any.

decoder of a unit -> Rows -> Locate (bounds.py) -> bursts and data
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.hw.interfaces import ErrorCode
from systolith.isa import ADDRESS_BITS, COUNT_BITS, EXTENT_BITS, OFFSET_BITS, REGION_BITS, form

__all__ = ["Rows", "row_context"]

ROW_STEP_BITS = form("CONFIG.LOAD_A.source")["row_step"].bits


def row_context(context) -> data.StructLayout:
    """What travels with a row: its first SRAM word, its error, if it is the last of its job, and the job's context."""
    return data.StructLayout({"sram": ADDRESS_BITS, "code": ErrorCode, "last": 1, "context": context})


class Rows(wiring.Component):
    """Steps through the rows of a job.

    Parameters
    ----------
    byte_bits : int
        Width of the number of bytes in a row.
    context : ShapeLike
        What travels with a job.

    Members
    -------
    job : In(stream)
        `rows` (at least 1) rows of `bytes` bytes at `offset` + r * `row_pitch` (mod 2^32) of `region`; those whose
        number `y` + r * `row_step` is not in [0, `height`) have none. Row r occupies `cols` words of SRAM from
        `sram` + r * `row_stride`. `code` is the error that the decoder found.
    row : Out(stream of {region, offset, bytes, context: row_context})
        What `Locate` takes. An error is the decoder's, else SRAM_RANGE if the row's words are not all below `depth`.
    busy : Out(1)

    One row a cycle, also from one job to the next; latency one cycle.
    """

    job: stream.Interface
    row: stream.Interface
    busy: Signal

    def __init__(self, byte_bits: int, context):
        self.job_layout = data.StructLayout(
            {
                "region": REGION_BITS,
                "offset": OFFSET_BITS,
                "bytes": byte_bits,
                "row_pitch": OFFSET_BITS,
                "rows": COUNT_BITS,
                "y": signed(EXTENT_BITS),
                "row_step": ROW_STEP_BITS,
                "height": EXTENT_BITS,
                "sram": ADDRESS_BITS,
                "cols": form("LOAD.W")["words"].bits,
                "row_stride": ADDRESS_BITS,
                "depth": ADDRESS_BITS + 1,
                "code": ErrorCode,
                "context": context,
            }
        )
        row = data.StructLayout(
            {"region": REGION_BITS, "offset": OFFSET_BITS, "bytes": byte_bits, "context": row_context(context)}
        )
        super().__init__(
            {
                "job": In(stream.Signature(self.job_layout)),
                "row": Out(stream.Signature(row)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        job, row = Signal(self.job_layout), self.row
        # Wide enough never to wrap, whatever the number of rows is.
        sram = Signal(ADDRESS_BITS + COUNT_BITS + 1)
        y = Signal(signed(max(EXTENT_BITS, COUNT_BITS + ROW_STEP_BITS) + 2))
        last = Signal()

        m.d.comb += [
            self.busy.eq(row.valid),
            row.p.region.eq(job.region),
            row.p.offset.eq(job.offset),
            row.p.bytes.eq(Mux((y >= 0) & (y < job.height), job.bytes, 0)),
            row.p.context.sram.eq(sram),
            row.p.context.code.eq(job.code),
            last.eq(job.rows == 1),
            row.p.context.last.eq(last),
            row.p.context.context.eq(job.context),
            self.job.ready.eq(~row.valid | (row.ready & last)),
        ]
        with m.If((job.code == ErrorCode.NONE) & (sram + job.cols > job.depth)):
            m.d.comb += row.p.context.code.eq(ErrorCode.SRAM_RANGE)

        with m.If(row.valid & row.ready):
            m.d.sync += [
                row.valid.eq(~last),
                job.rows.eq(job.rows - 1),
                job.offset.eq(job.offset + job.row_pitch),
                sram.eq(sram + job.row_stride),
                y.eq(y + job.row_step),
            ]
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += [row.valid.eq(1), job.eq(self.job.p), sram.eq(self.job.p.sram), y.eq(self.job.p.y)]
        return m
