"""Reader of activation SRAM for STORE: rows -> words in order, read ahead, to be packed and written.

Store -> ReadWords -> SRAM; words come back -> queue -> Packer (packer.py)
"""

import itertools

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.config import Config
from systolith.hw.dma.packer import packed_word
from systolith.hw.interfaces import READ_LATENCY, SramRead
from systolith.hw.lib.queue import Queue
from systolith.isa import ADDRESS_BITS, COUNT_BITS

__all__ = ["ReadWords", "words_row"]

DEPTH = 8
"""Words on their way or waiting: the read latency, and two cycles of the queue, and something for refused reads."""


def words_row(config: Config) -> data.StructLayout:
    """A row to read: `cols` words from `sram` on; `phase` goes with its words."""
    return data.StructLayout({"sram": ADDRESS_BITS, "cols": COUNT_BITS, "phase": exact_log2(config.axi_bytes)})


class ReadWords(wiring.Component):
    """Reads rows of words.

    Parameters
    ----------
    config : Config

    Members
    -------
    row : In(stream of words_row)
    read : Out(SramRead(act_depth, 8N))
        Asks only for what there is room for.
    word : Out(stream of packed_word)
    halt : In(1)
        No more reads.

    One word a cycle, also from one row to the next.
    """

    row: stream.Interface
    read: wiring.PureInterface
    word: stream.Interface
    halt: Signal

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "row": In(stream.Signature(words_row(config))),
                "read": Out(SramRead(config.act_depth, 8 * config.array)),
                "word": Out(stream.Signature(packed_word(config))),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(packed_word(self.config), DEPTH)
        row = Signal(words_row(self.config))
        active, first = Signal(), Signal()
        room = Signal(range(DEPTH + 1), init=DEPTH)
        taken, finish = Signal(), Signal()

        # Cycle 0: ask.
        m.d.comb += [
            self.read.valid.eq(active & (room != 0) & ~self.halt),
            self.read.address.eq(row.sram),
            taken.eq(self.read.valid & self.read.ready),
            finish.eq(taken & (row.cols == 1)),
            self.row.ready.eq(~active | finish),
        ]
        with m.If(taken):
            m.d.sync += [row.sram.eq(row.sram + 1), row.cols.eq(row.cols - 1), first.eq(0)]
        with m.If(self.row.ready):
            m.d.sync += [active.eq(self.row.valid), row.eq(self.row.p), first.eq(1)]

        # Meanwhile what is known about the word waits for its data.
        mark = data.StructLayout({"valid": 1, "phase": len(row.phase), "first": 1, "last": 1})
        marks = [Signal(mark, name=f"mark{k}") for k in range(READ_LATENCY)]
        m.d.sync += [
            marks[0].valid.eq(taken),
            marks[0].phase.eq(row.phase),
            marks[0].first.eq(first),
            marks[0].last.eq(row.cols == 1),
            *(later.eq(earlier) for earlier, later in itertools.pairwise(marks)),
        ]
        # Cycle READ_LATENCY: the data is here.
        m.d.comb += [
            queue.i.valid.eq(marks[-1].valid),
            queue.i.p.data.eq(self.read.data),
            queue.i.p.phase.eq(marks[-1].phase),
            queue.i.p.first.eq(marks[-1].first),
            queue.i.p.last.eq(marks[-1].last),
            self.word.p.eq(queue.o.p),
            self.word.valid.eq(queue.o.valid),
            queue.o.ready.eq(self.word.ready),
        ]
        m.d.sync += room.eq(room - taken + (queue.o.valid & queue.o.ready))
        return m
