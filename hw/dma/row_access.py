"""Address side of LOAD and STORE: jobs -> rows with checked addresses; the first row out of bounds is a fault.

decoder of a unit -> Rows -> Locate -> checked rows -> bursts and data
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from systolith.config import Config
from systolith.hw.dma.bounds import Locate, beat_bits
from systolith.hw.dma.rows import Rows, row_context
from systolith.hw.interfaces import ErrorCode, Fault, Regions
from systolith.isa import ADDRESS_BITS

__all__ = ["RowAccess"]


class RowAccess(wiring.Component):
    """Rows of jobs with their memory addresses, in order, checked.

    Parameters
    ----------
    config : Config
    byte_bits : int
        Width of the number of bytes in a row.
    context : Layout
        What travels with a job; has `index`.

    Members
    -------
    job : In(stream of Rows' jobs)
    regions : Out(Regions)
    row : Out(stream of {address, beats, sram, last, context})
        A row to access: `address` of its first byte, `beats` that hold it (0: none), its first SRAM word; `last` of its
        job. Withdrawn when `stopped`.
    failed : In(Fault)
        What has gone wrong with data: of an older instruction, so it comes before what is wrong with a row.
    fault : Out(Fault)
        The first one stays.
    halt : In(1), stopped : Out(1)
        Stopped: halted, or at a fault.
    busy : Out(1)

    One row a cycle, latency three cycles.
    """

    job: stream.Interface
    regions: wiring.PureInterface
    row: stream.Interface
    failed: Fault
    fault: Fault
    halt: Signal
    stopped: Signal
    busy: Signal

    def __init__(self, config: Config, byte_bits: int, context):
        self.rows = Rows(byte_bits, context)
        self.locate = Locate(config, byte_bits, row_context(context))
        row = data.StructLayout(
            {
                "address": config.axi_addr_bits,
                "beats": beat_bits(config, byte_bits),
                "sram": ADDRESS_BITS,
                "last": 1,
                "context": context,
            }
        )
        super().__init__(
            {
                "job": self.rows.signature.members["job"],
                "regions": Out(Regions(config)),
                "row": Out(stream.Signature(row)),
                "failed": In(Fault),
                "fault": Out(Fault),
                "halt": In(1),
                "stopped": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows, m.submodules.locate = rows, locate = self.rows, self.locate
        connect(m, flipped(self.job), rows.job)
        connect(m, rows.row, locate.span)
        connect(m, flipped(self.regions), locate.regions)

        found = locate.found
        checked = found.p.context
        refused = (checked.code != ErrorCode.NONE) | ~found.p.inside
        m.d.comb += [
            self.stopped.eq(self.halt | (self.fault.code != ErrorCode.NONE)),
            self.row.valid.eq(found.valid & ~refused & ~self.stopped),
            self.row.p.address.eq(found.p.address),
            self.row.p.beats.eq(found.p.beats),
            self.row.p.sram.eq(checked.sram),
            self.row.p.last.eq(checked.last),
            self.row.p.context.eq(checked.context),
            found.ready.eq(self.row.valid & self.row.ready),
            self.busy.eq(rows.busy | locate.busy),
        ]
        with m.If(~self.stopped):
            with m.If(self.failed.code != ErrorCode.NONE):
                m.d.sync += self.fault.eq(self.failed)
            with m.Elif(found.valid & refused):
                m.d.sync += [self.fault.code.eq(ErrorCode.REGION_RANGE), self.fault.index.eq(checked.context.index)]
                with m.If(checked.code != ErrorCode.NONE):
                    m.d.sync += self.fault.code.eq(checked.code)
        return m
