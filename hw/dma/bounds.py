"""Addresses with bounds check: region number and offset to memory address. No access gets past it unchecked.

rows of an instruction (rows.py) -> Locate -> bursts
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.config import Config
from systolith.hw.interfaces import Regions
from systolith.isa import OFFSET_BITS, REGION_BITS

__all__ = ["Locate", "beat_bits"]


def beat_bits(config: Config, byte_bits: int) -> int:
    """Width of the number of beats that `byte_bits` bits of bytes touch at any alignment."""
    return byte_bits - exact_log2(config.axi_bytes) + 1


class Locate(wiring.Component):
    """Address and beats of a span of bytes in a region, and whether all of it lies inside.

    Parameters
    ----------
    config : Config
        Widths of the memory port.
    byte_bits : int
        Width of the number of bytes.
    context : ShapeLike
        What travels with a span.

    Members
    -------
    regions : Out(Regions)
    span : In(stream of {region, offset, bytes, context})
        `bytes` = 0 accesses nothing and is always inside.
    found : Out(stream of {address, beats, inside, context})
        Byte address of the first byte; beats that hold the span.
    busy : Out(1)
        Something is inside.

    One span a cycle, latency two cycles; `found` not taken holds up everything.
    """

    regions: wiring.PureInterface
    span: stream.Interface
    found: stream.Interface
    busy: Signal

    def __init__(self, config: Config, byte_bits: int, context):
        self.config, self.byte_bits, self.context = config, byte_bits, context
        span = data.StructLayout({"region": REGION_BITS, "offset": OFFSET_BITS, "bytes": byte_bits, "context": context})
        found = data.StructLayout(
            {
                "address": config.axi_addr_bits,
                "beats": beat_bits(config, byte_bits),
                "inside": 1,
                "context": context,
            }
        )
        super().__init__(
            {
                "regions": Out(Regions(config)),
                "span": In(stream.Signature(span)),
                "found": Out(stream.Signature(found)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        span, found, beat = self.span, self.found, self.config.axi_bytes
        region = self.regions.table[span.p.region]
        valid = Signal()
        address = Signal(self.config.axi_addr_bits)
        end = Signal(OFFSET_BITS + 2)
        limit = Signal(OFFSET_BITS + 1)
        count = Signal(self.byte_bits)
        context = Signal(self.context)
        advance = Signal()
        m.d.comb += [
            advance.eq(~found.valid | found.ready),
            span.ready.eq(advance),
            self.busy.eq(valid | found.valid),
        ]
        with m.If(advance):
            m.d.sync += [
                # Cycle 1: where it begins and ends.
                valid.eq(span.valid),
                address.eq(region.base + span.p.offset),
                end.eq(span.p.offset + span.p.bytes),
                limit.eq(region.limit),
                count.eq(span.p.bytes),
                context.eq(span.p.context),
                # Cycle 2: whether that is allowed, and how many beats it is.
                found.valid.eq(valid),
                found.p.address.eq(address),
                found.p.beats.eq((address[: exact_log2(beat)] + count + (beat - 1)) >> exact_log2(beat)),
                found.p.inside.eq((end <= limit) | (count == 0)),
                found.p.context.eq(context),
            ]
            with m.If(count == 0):
                m.d.sync += found.p.beats.eq(0)
        return m
