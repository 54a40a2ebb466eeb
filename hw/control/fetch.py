"""Instruction fetch: reads region CODE from its first byte on, ahead of dispatch.

memory -> fetch -> dispatch -> queues of the units.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.config import Config
from systolith.hw.interfaces import ErrorCode, Issued, ReadBus, Regions
from systolith.isa import INSTRUCTION_BYTES, Opcode, Region

__all__ = ["Fetch", "Fetched"]

BURST_BYTES = 256
"""Longest read; short, for the load units wait meanwhile."""
BUFFER_BYTES = 1024
"""What is read ahead: it covers the time the load units' bursts keep the memory busy."""


class Fetched(data.Struct):
    """An instruction, or instead of it the error that came where it should have been."""

    issued: Issued
    code: ErrorCode


class Fetch(wiring.Component):
    """Reads instructions in bursts and hands them on one at a time, in order, with their indices.

    Parameters
    ----------
    config : Config
        AXI widths and burst length.

    Members
    -------
    start : In(1)
        Pulse: begin at offset 0 of region CODE. Only while `idle`.
    regions : Out(Regions)
        The base of CODE must be a multiple of the beat, else the first instruction is a REGION_RANGE error.
    bus : Out(ReadBus)
        Bursts of up to 256 bytes that end on a multiple of their longest length, so none crosses 4 KiB.
    instruction : Out(stream of Fetched)
        After END nothing more comes. At the end of the region REGION_RANGE comes; a beat refused by the memory is
        AXI_READ for the instructions in it. Errors travel in order, so only one that is reached counts.
    idle : Out(1)
        Nothing is in flight or buffered: what was read beyond END has arrived and is dropped.
    halt : In(1)
        No more requests until reset.

    One instruction a cycle (one in two cycles with 64-bit beats). Asks only for what its buffer has room for.
    """

    def __init__(self, config: Config):
        self.config = config
        self.burst = min(config.axi_burst, BURST_BYTES // config.axi_bytes)
        self.depth = max(2 * self.burst, BUFFER_BYTES // config.axi_bytes)
        super().__init__(
            {
                "start": In(1),
                "regions": Out(Regions(config)),
                "bus": Out(ReadBus(config)),
                "instruction": Out(stream.Signature(Fetched)),
                "idle": Out(1),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        code = self.regions.table[Region.CODE]
        m.submodules.buffer = buffer = SyncFIFOBuffered(width=self.config.axi_data_bits + 1, depth=self.depth)

        # Beats asked for and not yet taken out of the buffer.
        requested = Signal(range(self.depth + 1))
        asked = Signal(range(self.burst + 1))
        m.d.sync += requested.eq(requested + asked - (buffer.r_rdy & buffer.r_en))
        m.d.comb += self.idle.eq(requested == 0)

        running = Signal()
        ended = Signal()
        misaligned = code.base[: exact_log2(self.config.axi_bytes)].any()
        may_ask = running & ~ended & ~misaligned & ~self.halt & (requested <= self.depth - self.burst)
        self._request(m, code, may_ask, asked)
        self._collect(m, buffer, ended)
        self._emit(m, code.limit >> exact_log2(INSTRUCTION_BYTES), misaligned, buffer, running)
        return m

    def _request(self, m: Module, code, may_ask, asked: Signal):
        """Bursts until the region is read; `asked` is the beats of the one made now, or 0."""
        shift = exact_log2(self.config.axi_bytes)
        address = Signal(self.config.axi_addr_bits - shift)
        left = Signal(34 - shift)
        to_boundary = self.burst - (address & (self.burst - 1))
        request = self.bus.request
        free = ~request.valid | request.ready
        with m.If(may_ask & free):
            m.d.comb += asked.eq(Mux(left < to_boundary, left, to_boundary))
        with m.If(free):
            m.d.sync += request.valid.eq(asked != 0)
        with m.If(asked != 0):
            m.d.sync += [
                request.p.address.eq(address << shift),
                request.p.beats.eq(asked - 1),
                address.eq(address + asked),
                left.eq(left - asked),
            ]
        with m.If(self.start):
            whole = code.limit >> exact_log2(INSTRUCTION_BYTES) << exact_log2(INSTRUCTION_BYTES)
            m.d.sync += [
                address.eq(code.base >> shift),
                left.eq((whole + self.config.axi_bytes - 1) >> shift),
            ]

    def _collect(self, m: Module, buffer: SyncFIFOBuffered, ended: Signal):
        """Beats into the buffer. An END stops requests as soon as it arrives."""
        bus = self.bus
        m.d.comb += [buffer.w_en.eq(bus.beat_valid), buffer.w_data.eq(Cat(bus.beat_data, bus.beat_error))]
        opcodes = [bus.beat_data[i : i + 4] for i in range(0, self.config.axi_data_bits, 8 * INSTRUCTION_BYTES)]
        has_end = Cat(opcode == Opcode.END for opcode in opcodes).any()
        if self.config.axi_bytes < INSTRUCTION_BYTES:
            # Half an instruction in a beat: the opcode is in the first half, the second may be in the next burst.
            second = Signal()
            first_has_end = Signal()
            with m.If(self.start):
                m.d.sync += second.eq(0)
            with m.Elif(bus.beat_valid):
                m.d.sync += [second.eq(~second), first_has_end.eq(has_end)]
            has_end = second & first_has_end
        with m.If(self.start):
            m.d.sync += ended.eq(0)
        with m.Elif(bus.beat_valid & has_end):
            m.d.sync += ended.eq(1)

    def _emit(self, m: Module, count, misaligned, buffer: SyncFIFOBuffered, running: Signal):
        """Beats into instructions, `count` of them at most."""
        out = self.instruction
        index = Signal.like(out.p.issued.index)
        at_end = (index == count) | misaligned
        with m.If(self.start):
            m.d.sync += [running.eq(1), index.eq(0)]

        word, error = buffer.r_data[:-1], buffer.r_data[-1]
        complete, take = self._assemble(m, word, error, out, index, buffer.r_rdy)
        m.d.comb += out.p.issued.index.eq(index)
        with m.If(~running):
            m.d.comb += buffer.r_en.eq(1)
        with m.Elif(at_end):
            m.d.comb += [out.valid.eq(1), out.p.code.eq(ErrorCode.REGION_RANGE)]
        with m.Else():
            m.d.comb += [out.valid.eq(complete), buffer.r_en.eq(take)]
        with m.If(out.valid & out.ready):
            m.d.sync += index.eq(index + 1)
            with m.If((out.p.code != ErrorCode.NONE) | (out.p.issued.word[:4] == Opcode.END)):
                m.d.sync += running.eq(0)

    def _assemble(self, m: Module, word, error, out, index: Signal, available):
        """Connect word and error of `out`. Returns: an instruction is complete; the buffer's beat is used up."""
        bits = 8 * INSTRUCTION_BYTES
        m.d.comb += out.p.code.eq(Mux(error, ErrorCode.AXI_READ, ErrorCode.NONE))
        if len(word) == bits:
            m.d.comb += out.p.issued.word.eq(word)
            return available, out.ready
        if len(word) > bits:
            m.d.comb += out.p.issued.word.eq(Mux(index[0], word[bits:], word[:bits]))
            return available, out.ready & index[0]
        low = Signal(len(word) + 1)
        second = Signal()
        with m.If(self.start):
            m.d.sync += second.eq(0)
        with m.Elif(available & (~second | out.ready)):
            m.d.sync += [second.eq(~second), low.eq(Cat(word, error))]
        m.d.comb += out.p.issued.word.eq(Cat(low[:-1], word))
        with m.If(error | low[-1]):
            m.d.comb += out.p.code.eq(ErrorCode.AXI_READ)
        return available & second, ~second | out.ready
