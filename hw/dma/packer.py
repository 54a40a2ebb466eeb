"""SRAM words -> beats with strobes: packs the words of a row one after the other, from any byte of its first beat on.

SRAM reads of the store unit -> Packer -> AxiMaster
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.config import Config

__all__ = ["Packer", "packed_word"]


def packed_word(config: Config) -> data.StructLayout:
    """A word of a row; `phase`: byte of the first beat where the row begins."""
    return data.StructLayout(
        {"data": 8 * config.array, "phase": exact_log2(config.axi_bytes), "first": 1, "last": 1},
    )


class Packer(wiring.Component):
    """Packs words into beats.

    A word goes in slices of at most a beat. Each is shifted to where the one before ended, and merged with what of it
    did not fill a beat.

    Parameters
    ----------
    config : Config
        Array size and AXI width.

    Members
    -------
    word : In(stream of packed_word)
    beat : Out(stream of {data, strobe})
        Bytes before the row's first and after its last one have no strobe.

    One slice a cycle; a row that ends beyond its last slice's beat takes one more. Latency two cycles.
    """

    word: stream.Interface
    beat: stream.Interface

    def __init__(self, config: Config):
        self.config = config
        beat = data.StructLayout({"data": config.axi_data_bits, "strobe": config.axi_bytes})
        super().__init__({"word": In(stream.Signature(packed_word(config))), "beat": Out(stream.Signature(beat))})

    def elaborate(self, platform):
        m = Module()
        n, beat_bytes = self.config.array, self.config.axi_bytes
        slices = -(-n // beat_bytes)
        word, beat = self.word, self.beat
        number = Signal(range(max(2, slices)))
        # Byte of the beat where the next slice begins.
        fill = Signal(exact_log2(beat_bytes))
        valid, whole, last, spills = Signal(), Signal(), Signal(), Signal()
        shifted = Signal(data.StructLayout({"data": 16 * beat_bytes, "strobe": 2 * beat_bytes}))
        advance = Signal()

        # Cycle 1: the next slice to its place.
        end_of_word = number == slices - 1
        count = Mux(end_of_word, n - (slices - 1) * beat_bytes, beat_bytes)
        at = Mux(word.p.first & (number == 0), word.p.phase, fill)
        end = Signal(range(2 * beat_bytes + 1))
        chunk = word.p.data.word_select(number, 8 * beat_bytes)
        exist = Const((1 << n) - 1, slices * beat_bytes).word_select(number, beat_bytes)
        m.d.comb += [end.eq(at + count), word.ready.eq(advance & end_of_word)]
        with m.If(advance):
            m.d.sync += valid.eq(word.valid)
        with m.If(advance & word.valid):
            m.d.sync += [
                number.eq(Mux(end_of_word, 0, number + 1)),
                fill.eq(end),
                shifted.data.eq(chunk << Cat(Const(0, 3), at)),
                shifted.strobe.eq(exist << at),
                whole.eq(end >= beat_bytes),
                last.eq(word.p.last & end_of_word),
                spills.eq(word.p.last & end_of_word & (end > beat_bytes)),
            ]

        # Cycle 2: merge with what is left over. `flush`: that is the end of a row.
        left = Signal(beat.p.shape())
        flush = Signal()
        low = data.View(left.shape(), Cat(shifted.data[: 8 * beat_bytes], shifted.strobe[:beat_bytes]))
        high = Cat(shifted.data[8 * beat_bytes :], shifted.strobe[beat_bytes:])
        complete = whole | last
        m.d.comb += [
            beat.p.data.eq(Mux(flush, left.data, left.data | low.data)),
            beat.p.strobe.eq(Mux(flush, left.strobe, left.strobe | low.strobe)),
            beat.valid.eq(flush | (valid & complete)),
            advance.eq(~flush & (~valid | ~complete | beat.ready)),
        ]
        with m.If(flush & beat.ready):
            m.d.sync += [flush.eq(0), left.eq(0)]
        with m.Elif(advance & valid):
            m.d.sync += [left.eq(Mux(complete, high, left.as_value() | low.as_value())), flush.eq(spills)]
        return m
