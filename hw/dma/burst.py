"""Splits a span of beats into AXI bursts: spans (any length) -> bursts (never across 4 KiB)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.config import Config

__all__ = ["BurstSplitter", "split"]


def split(address: int, beats: int, config: Config) -> list[tuple[int, int]]:
    """(byte address, beats) of the bursts of `beats` beats from the one that holds byte `address`."""
    bursts = []
    beat, end = address // config.axi_bytes, address // config.axi_bytes + beats
    while beat < end:
        count = min(end - beat, config.axi_burst - beat % config.axi_burst)
        bursts.append((beat * config.axi_bytes, count))
        beat += count
    return bursts


class BurstSplitter(wiring.Component):
    """Bursts that end on multiples of `axi_burst` beats; so none crosses 4 KiB.

    Parameters
    ----------
    config : Config
        `axi_burst`, widths.
    beat_bits : int
        Width of the length of a span.

    Members
    -------
    span : In(stream of {address, beats})
        Byte address (any alignment; the beat that holds it is the first) and number of beats, at least 1.
    burst : Out(stream of {address, beats, last})
        Byte address of the first beat, beats - 1; `last` of its span.

    One burst a cycle, also from one span to the next; latency one cycle.
    """

    span: stream.Interface
    burst: stream.Interface

    def __init__(self, config: Config, beat_bits: int):
        self.config, self.beat_bits = config, beat_bits
        span = data.StructLayout({"address": config.axi_addr_bits, "beats": beat_bits})
        burst = data.StructLayout({"address": config.axi_addr_bits, "beats": 8, "last": 1})
        super().__init__({"span": In(stream.Signature(span)), "burst": Out(stream.Signature(burst))})

    def elaborate(self, platform):
        m = Module()
        shift, longest = exact_log2(self.config.axi_bytes), self.config.axi_burst
        beat = Signal(self.config.axi_addr_bits - shift)
        left = Signal(self.beat_bits)
        burst = self.burst

        room = longest - beat[: exact_log2(longest)]
        count = Signal(range(longest + 1))
        last = Signal()
        m.d.comb += [
            burst.valid.eq(left != 0),
            last.eq(left <= room),
            count.eq(Mux(last, left, room)),
            burst.p.last.eq(last),
            burst.p.address.eq(Cat(Const(0, shift), beat)),
            burst.p.beats.eq(count - 1),
            self.span.ready.eq(~burst.valid | (burst.ready & last)),
        ]
        with m.If(self.span.valid & self.span.ready):
            m.d.sync += [beat.eq(self.span.p.address >> shift), left.eq(self.span.p.beats)]
        with m.Elif(burst.valid & burst.ready):
            m.d.sync += [beat.eq(beat + count), left.eq(left - count)]
        return m
