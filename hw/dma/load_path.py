"""Load path, common to both load units behind their decoders: memory rows -> checked addresses -> bursts -> SRAM words.

decoder -> RowAccess -+-> ReadStream -> beats -+-> Extractor -> words
                      +-> queue of rows -------+
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from systolith.config import Config
from systolith.hw.dma.bounds import beat_bits
from systolith.hw.dma.read_stream import ReadStream
from systolith.hw.dma.realign import Extractor, load_context, row_layout, word_layout
from systolith.hw.dma.row_access import RowAccess
from systolith.hw.interfaces import INDEX_BITS, ErrorCode, Fault, ReadBus, Regions
from systolith.hw.lib.queue import Queue
from systolith.isa import UNITS

__all__ = ["LoadPath"]


class LoadPath(wiring.Component):
    """Runs load jobs: addresses go out ahead, as far as buffers reach, while data of earlier jobs is written.

    Parameters
    ----------
    config : Config
    byte_bits : int
        Width of the number of bytes in a row.

    Members
    -------
    job : In(stream of Rows' jobs)
        With `load_context`. A job without anything to write (`write` = 0, `cols` = 1, `bytes` = 0) only retires.
    regions : Out(Regions), bus : Out(ReadBus)
    word : Out(stream of word_layout)
        Words to write, in order.
    give, retired, retired_index, fault, busy : as in UnitPort
        A job retires in the cycle after its last word was taken.
    halt : In(1)
        Of the unit.
    stopped : Out(1)
        Halted, or at a fault: nothing new may start.
    """

    job: stream.Interface
    regions: wiring.PureInterface
    bus: wiring.PureInterface
    word: stream.Interface
    give: Signal
    retired: Signal
    retired_index: Signal
    fault: Fault
    busy: Signal
    halt: Signal
    stopped: Signal

    def __init__(self, config: Config, byte_bits: int):
        self.config, self.byte_bits = config, byte_bits
        self.access = RowAccess(config, byte_bits, load_context(byte_bits))
        super().__init__(
            {
                "job": self.access.signature.members["job"],
                "regions": Out(Regions(config)),
                "bus": Out(ReadBus(config)),
                "word": Out(stream.Signature(word_layout(config))),
                "give": Out(UNITS),
                "retired": Out(1),
                "retired_index": Out(INDEX_BITS),
                "fault": Out(Fault),
                "busy": Out(1),
                "halt": In(1),
                "stopped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, bits = self.config, self.byte_bits
        m.submodules.access = access = self.access
        m.submodules.read = read = ReadStream(config, beat_bits(config, bits))
        m.submodules.queue = queue = Queue(row_layout(config, bits), max(4, config.axi_outstanding))
        m.submodules.extract = extract = Extractor(config, bits)
        connect(m, flipped(self.job), access.job)
        connect(m, access.regions, flipped(self.regions))
        connect(m, read.bus, flipped(self.bus))
        connect(m, queue.o, extract.row)
        connect(m, read.beats, extract.beats)

        stopped = self.stopped
        m.d.comb += [
            access.halt.eq(self.halt),
            access.failed.code.eq(Mux(extract.error, ErrorCode.AXI_READ, ErrorCode.NONE)),
            access.failed.index.eq(extract.index),
            self.fault.eq(access.fault),
            stopped.eq(access.stopped),
            read.halt.eq(stopped),
        ]

        # A row goes both ways at once.
        row = access.row
        nothing = row.p.beats == 0
        m.d.comb += [
            read.span.valid.eq(row.valid & ~nothing & queue.i.ready),
            read.span.p.address.eq(row.p.address),
            read.span.p.beats.eq(row.p.beats),
            queue.i.valid.eq(row.valid & (nothing | read.span.ready)),
            queue.i.p.beats.eq(row.p.beats),
            queue.i.p.phase.eq(row.p.address),
            queue.i.p.sram.eq(row.p.sram),
            queue.i.p.last.eq(row.p.last),
            queue.i.p.context.eq(row.p.context),
            row.ready.eq(queue.i.ready & (nothing | read.span.ready)),
        ]

        word = extract.word
        done = Signal()
        m.d.comb += [
            self.word.payload.eq(word.payload),
            self.word.valid.eq(word.valid & word.p.write & ~stopped),
            word.ready.eq((self.word.ready | ~word.p.write) & ~stopped),
            done.eq(word.valid & word.ready & word.p.last),
            self.busy.eq(access.busy | queue.o.valid | extract.busy | self.retired),
        ]
        m.d.sync += [self.retired.eq(done), self.give.eq(0), self.retired_index.eq(word.p.index)]
        with m.If(done):
            m.d.sync += self.give.eq(word.p.signal)
        return m
