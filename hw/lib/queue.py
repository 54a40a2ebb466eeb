"""A small FIFO of any payload, between the address side and the data side of the DMA units."""

from amaranth.hdl import Module, Shape, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


class Queue(wiring.Component):
    """First in, first out; in distributed memory.

    Parameters
    ----------
    shape : ShapeLike
        Of the payload.
    depth : int
        Entries.

    Members
    -------
    i : In(stream of shape), o : Out(stream of shape)

    An entry can be read in the cycle after it was written. One in and one out every cycle (with one entry, every
    other cycle). `i` is refused when full.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape, depth: int):
        self.shape, self.depth = shape, depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        # A single entry is a register: a memory of one word would have an address of no bits.
        kind = SyncFIFOBuffered if self.depth == 1 else SyncFIFO
        m.submodules.fifo = fifo = kind(width=Shape.cast(self.shape).width, depth=self.depth)
        m.d.comb += [
            fifo.w_data.eq(self.i.payload),
            fifo.w_en.eq(self.i.valid),
            self.i.ready.eq(fifo.w_rdy),
            Value.cast(self.o.payload).eq(fifo.r_data),
            self.o.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.o.ready),
        ]
        return m
