"""Beats of rows -> SRAM words: cuts windows at any byte, at any distance, out of an aligned stream, and pads them.

ReadStream (read_stream.py) -> Extractor -> SRAM write port of a load unit
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from systolith.config import Config
from systolith.hw.dma.bounds import beat_bits
from systolith.hw.dma.read_stream import beat_layout
from systolith.hw.interfaces import INDEX_BITS
from systolith.isa import ADDRESS_BITS, UNITS, VALUE_BITS, form

__all__ = ["Extractor", "load_context", "row_layout", "word_layout"]


def load_context(byte_bits: int) -> data.StructLayout:
    """What an instruction says about its words.

    `lead`: min(x0, 0). [`low`, `high`): lanes that the bytes that exist would take in word 0, one after the other;
    they move down by `step` with each word. `write` = 0: there is nothing to write, only to retire.
    """
    return data.StructLayout(
        {
            "lead": signed(form("LOAD.A")["x0"].bits + 1),
            "low": signed(byte_bits + 2),
            "high": signed(byte_bits + 2),
            "step": form("CONFIG.LOAD_A.window")["step"].bits,
            "length": form("CONFIG.LOAD_A.window")["length"].bits,
            "lane": form("CONFIG.LOAD_A.window")["lane"].bits,
            "zero_point": VALUE_BITS,
            "cols": form("LOAD.W")["words"].bits,
            "target": form("LOAD.W")["target"].bits,
            "write": 1,
            "index": INDEX_BITS,
            "signal": UNITS,
        }
    )


def row_layout(config: Config, byte_bits: int) -> data.StructLayout:
    """A row: its beats in the stream, byte of the first beat where the row's data begins, first SRAM word."""
    return data.StructLayout(
        {
            "beats": beat_bits(config, byte_bits),
            "phase": exact_log2(config.axi_bytes),
            "sram": ADDRESS_BITS,
            "last": 1,
            "context": load_context(byte_bits),
        }
    )


def word_layout(config: Config) -> data.StructLayout:
    """A word on its way to SRAM; `mask` has a bit for each byte. `last`: instruction `index` retires with it."""
    return data.StructLayout(
        {
            "address": ADDRESS_BITS,
            "data": 8 * config.array,
            "mask": config.array,
            "target": form("LOAD.W")["target"].bits,
            "write": 1,
            "last": 1,
            "index": INDEX_BITS,
            "signal": UNITS,
        }
    )


class Extractor(wiring.Component):
    """Cuts words out of beats.

    The beats go round a ring of a few slots. A word's bytes lie at any byte of the ring, and are moved to their lanes
    by a rotation in two steps: which beats, then which byte of the first.

    Parameters
    ----------
    config : Config
        Array size and AXI width.
    byte_bits : int
        Width of the number of bytes in a row.

    Members
    -------
    row : In(stream of row_layout), beats : In(stream of {data, error})
        Rows, and the beats of all of them in the same order.
    word : Out(stream of word_layout)
        Bytes before `low` and from `high` on, and all bytes of a row without beats, are the zero point.
    error : Out(1), index : Out(24)
        A beat of the row at work was refused by the memory; instruction it belongs to. Work stops there.
    busy : Out(1)

    One word a cycle as long as a beat or less is used up by each, else one beat a cycle; nothing is lost from one row
    to the next. Latency three cycles from beat to word. `word` not taken holds up everything.
    """

    row: stream.Interface
    beats: stream.Interface
    word: stream.Interface
    error: Signal
    index: Signal
    busy: Signal

    def __init__(self, config: Config, byte_bits: int):
        self.config, self.byte_bits = config, byte_bits
        # Beats that N bytes touch at worst; one more slot is filled meanwhile.
        self.span = (config.array + config.axi_bytes - 2) // config.axi_bytes + 1
        self.slots = 1 << ceil_log2(self.span + 1)
        super().__init__(
            {
                "row": In(stream.Signature(row_layout(config, byte_bits))),
                "beats": In(stream.Signature(beat_layout(config))),
                "word": Out(stream.Signature(word_layout(config))),
                "error": Out(1),
                "index": Out(INDEX_BITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shift, ring_bits = exact_log2(self.config.axi_bytes), exact_log2(self.slots)
        ring = Array(Signal(self.config.axi_data_bits, name=f"slot{k}") for k in range(self.slots))
        row = Signal(row_layout(self.config, self.byte_bits))
        active = Signal()
        # The window of the current word, as byte of the row's beats: where it begins, and ends (+ beat - 1).
        begin = Signal(signed(self.byte_bits + 2))
        end = Signal(signed(self.byte_bits + 2))
        # Beats of this row (and the next ones) that are, or were, in the ring; slots of the row's first beat and of the
        # next beat to come.
        have = Signal(len(row.beats) + 1)
        first, fill = Signal(ring_bits), Signal(ring_bits)
        # Byte of the ring that goes to lane 0.
        rotation = Signal(shift + ring_bits)
        lanes = Signal(self.config.array)
        advance, load, step, finish = Signal(), Signal(), Signal(), Signal()

        # Beats in: as long as they overwrite nothing that the current word or a later one needs.
        kept = Mux(begin < 0, 0, begin[shift:])
        of_row = active & (have < row.beats)
        room = Mux(active, (have < kept + self.slots) & (have < row.beats + self.slots), have < self.slots)
        m.d.comb += [
            self.beats.ready.eq(room & ~self.beats.p.error),
            load.eq(self.beats.valid & self.beats.ready),
            self.error.eq(self.beats.valid & self.beats.p.error & of_row),
            self.index.eq(row.context.index),
        ]
        with m.If(load):
            m.d.sync += [ring[fill].eq(self.beats.p.data), fill.eq(fill + 1)]

        # Words out: as soon as all of a window's beats are there.
        complete = (have >= row.beats) | (have >= (end >> shift))
        m.d.comb += [
            step.eq(active & complete & advance),
            finish.eq(step & (row.context.cols == 1)),
            self.row.ready.eq(~active | finish),
        ]
        m.d.sync += have.eq(have + load - Mux(finish, row.beats, 0))
        with m.If(step):
            m.d.sync += [
                row.context.cols.eq(row.context.cols - 1),
                row.context.low.eq(row.context.low - row.context.step),
                row.context.high.eq(row.context.high - row.context.step),
                row.sram.eq(row.sram + 1),
                begin.eq(begin + row.context.step),
                end.eq(end + row.context.step),
                rotation.eq(rotation + row.context.step),
            ]
        following = Signal(ring_bits)
        m.d.comb += following.eq(first + Mux(finish, row.beats, 0))
        with m.If(self.row.ready):
            new, start = self.row.p, self.row.p.phase + self.row.p.context.lead
            m.d.sync += [
                active.eq(self.row.valid),
                row.eq(new),
                begin.eq(start),
                end.eq(start + new.context.length + (self.config.axi_bytes - 1)),
                first.eq(following),
                rotation.eq((following << shift) + start - new.context.lane),
            ]
            with m.If(new.beats == 0):
                m.d.sync += row.context.high.eq(new.context.low)
            for lane in range(self.config.array):
                m.d.sync += lanes[lane].eq(
                    (new.context.lane <= lane) & (lane < new.context.lane + new.context.length) & new.context.write
                )

        valid = self._cut(m, ring, row, rotation, lanes, step, advance)
        m.d.comb += self.busy.eq(active | valid | self.word.valid)
        return m

    def _cut(self, m: Module, ring: Array, row, rotation, lanes, step, advance):
        """The rotation, in two cycles. Returns: a word is between them."""
        shift, n, word = exact_log2(self.config.axi_bytes), self.config.array, self.word
        valid = Signal()
        beats = Signal(self.span * self.config.axi_data_bits)
        byte = Signal(shift)
        low, high = Signal(range(n + 1)), Signal(range(n + 1))
        zero_point = Signal(VALUE_BITS)
        cut = Signal(word_layout(self.config))
        m.d.comb += advance.eq(~word.valid | word.ready)
        with m.If(advance):
            # Cycle 1: the beats that the word touches, the first one where lane 0 is.
            slot = rotation[shift:]
            m.d.sync += [
                valid.eq(step),
                beats.eq(Cat(ring[(slot + k)[: len(slot)]] for k in range(self.span))),
                byte.eq(rotation[:shift]),
                low.eq(_clamp(row.context.low, n)),
                high.eq(_clamp(row.context.high, n)),
                zero_point.eq(row.context.zero_point),
                cut.address.eq(row.sram),
                cut.mask.eq(lanes),
                cut.target.eq(row.context.target),
                cut.write.eq(row.context.write),
                cut.last.eq(row.last & (row.context.cols == 1)),
                cut.index.eq(row.context.index),
                cut.signal.eq(row.context.signal),
            ]
            # Cycle 2: bytes to their lanes, zero point where there are none.
            # A signal, for an expression is written out again for each of its uses.
            moved = Signal(8 * n)
            m.d.comb += moved.eq(beats >> Cat(Const(0, 3), byte))
            m.d.sync += [word.valid.eq(valid), word.p.eq(cut)]
            for lane in range(n):
                exists = (low <= lane) & (lane < high)
                m.d.sync += word.p.data.word_select(lane, 8).eq(Mux(exists, moved.word_select(lane, 8), zero_point))
        return valid


def _clamp(value, high: int):
    """`value` (signed) brought into [0, high]."""
    return Mux(value < 0, 0, Mux(value > high, high, value))
