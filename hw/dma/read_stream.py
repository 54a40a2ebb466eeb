"""Spans of memory -> an ordered stream of beats, requested ahead as far as there is room.

Locate (bounds.py) -> ReadStream -> AxiMaster; beats come back -> buffer -> Extractor (realign.py)
"""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from systolith.config import Config
from systolith.hw.dma.burst import BurstSplitter
from systolith.hw.interfaces import ReadBus

__all__ = ["ReadStream", "beat_layout"]


def beat_layout(config: Config) -> data.StructLayout:
    """A beat, and whether the memory refused it."""
    return data.StructLayout({"data": config.axi_data_bits, "error": 1})


class ReadStream(wiring.Component):
    """Reads spans of beats through a buffer of `axi_buffer` beats.

    Parameters
    ----------
    config : Config
        `axi_buffer`, `axi_burst`, widths.
    beat_bits : int
        Width of the length of a span.

    Members
    -------
    span : In(stream of {address, beats})
        See BurstSplitter.
    bus : Out(ReadBus)
        A burst is requested when the buffer has room for all of it, so beats are never refused.
    beats : Out(stream of {data, error})
        All beats of all spans, in order.
    halt : In(1)
        No more requests.

    One burst a cycle, one beat a cycle; a beat comes out two cycles after it arrived.
    """

    span: stream.Interface
    bus: wiring.PureInterface
    beats: stream.Interface
    halt: Signal

    def __init__(self, config: Config, beat_bits: int):
        self.config = config
        self.splitter = BurstSplitter(config, beat_bits)
        super().__init__(
            {
                "span": self.splitter.signature.members["span"],
                "bus": Out(ReadBus(config)),
                "beats": Out(stream.Signature(beat_layout(config))),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self.config.axi_buffer
        m.submodules.splitter = splitter = self.splitter
        # One more for the output register, so that the memory is a power of two.
        m.submodules.buffer = buffer = SyncFIFOBuffered(width=self.config.axi_data_bits + 1, depth=depth + 1)
        connect(m, flipped(self.span), splitter.span)

        # Room that no burst has been promised.
        room = Signal(range(depth + 1), init=depth)
        asked = Signal(range(self.config.axi_burst + 1))
        burst, request = splitter.burst, self.bus.request
        m.d.comb += [
            request.p.address.eq(burst.p.address),
            request.p.beats.eq(burst.p.beats),
            request.valid.eq(burst.valid & (room > burst.p.beats) & ~self.halt),
            burst.ready.eq(request.valid & request.ready),
        ]
        with m.If(burst.ready):
            m.d.comb += asked.eq(burst.p.beats + 1)
        m.d.sync += room.eq(room - asked + (self.beats.valid & self.beats.ready))

        m.d.comb += [
            buffer.w_data.eq(Cat(self.bus.beat_data, self.bus.beat_error)),
            buffer.w_en.eq(self.bus.beat_valid),
            Value.cast(self.beats.payload).eq(buffer.r_data),
            self.beats.valid.eq(buffer.r_rdy),
            buffer.r_en.eq(self.beats.ready),
        ]
        return m
