"""AXI4 master, shared by all units that access memory: fetch, both load units, store.

requesters (bursts, never across 4 KiB) -> AxiMaster -> memory
"""

from amaranth.hdl import Module, Mux, ResetSignal, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.dma.axi import CACHE, INCREMENTING, OKAY, Axi4, beat_size
from systolith.hw.interfaces import ReadBus, WriteBus
from systolith.hw.lib.queue import Queue

__all__ = ["AxiCounts", "AxiMaster"]

FETCH, LOAD_WEIGHTS, LOAD_ACTIVATIONS = range(3)


class AxiCounts(data.Struct):
    """What happened in this cycle: a beat read or written; a read address or write data that had to wait."""

    read_beat: 1
    write_beat: 1
    read_stall: 1
    write_stall: 1


class AxiMaster(wiring.Component):
    """Shares the memory port.

    Parameters
    ----------
    config : Config
        Widths of the port; `axi_outstanding` is the most read bursts, and the most write bursts, in flight.

    Members
    -------
    fetch, load_weights, load_activations : In(ReadBus)
        For each burst, fetch goes first, then the load units in turn.
    store : In(WriteBus)
        Beats of a burst go out after (or with) its address; the master counts them.
    axi : Out(Axi4)
        One ID. Read data and write responses are never refused.
    halt : In(1)
        No new burst begins. Reads in flight arrive as ever; write bursts in flight are completed with no strobes.
    quiet : Out(1)
        No burst is in flight.
    counts : Out(AxiCounts)

    A burst can be requested every cycle. Latency: one cycle for addresses, data and responses each.

    Reset at rest (`quiet`) forgets nothing. A reset that cuts bursts is only sound if the path to memory is reset, too:
    AXI knows no way to call back a burst. Where the path goes on all the same, its beats and responses for the bursts
    that were cut may come at any time, even after new bursts have begun. They are told apart by their ID: bursts carry
    the number of an era, 0 at power-up, which changes with each reset that cuts bursts, and keeps its value in every
    reset. Beats and responses of the other era, and those that come while none is owed, are dropped. There are two
    numbers, so all answers from before a cut must have come before another one. Nothing can be done about data that
    the path still expects for a write burst: AXI4 write data has no ID, so the path would take that of a new burst.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "fetch": In(ReadBus(config)),
                "load_weights": In(ReadBus(config)),
                "load_activations": In(ReadBus(config)),
                "store": In(WriteBus(config)),
                "axi": Out(Axi4(config)),
                "halt": In(1),
                "quiet": Out(1),
                "counts": Out(AxiCounts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        self.era = era = Signal(reset_less=True)
        for prefix in ("ar", "aw"):
            m.d.comb += [
                getattr(axi, f"{prefix}size").eq(beat_size(self.config)),
                getattr(axi, f"{prefix}burst").eq(INCREMENTING),
                getattr(axi, f"{prefix}cache").eq(CACHE),
                getattr(axi, f"{prefix}id").eq(era),
            ]
        m.d.comb += [
            self.counts.write_beat.eq(axi.wvalid & axi.wready),
            self.counts.read_stall.eq(axi.arvalid & ~axi.arready),
            self.counts.write_stall.eq(axi.wvalid & ~axi.wready),
            self.quiet.eq(self._read(m) & self._write(m)),
        ]
        with m.If(ResetSignal() & ~self.quiet):
            m.d.sync += era.eq(~era)
        return m

    def _read(self, m: Module):
        """Address and data of reads. Returns: none is in flight."""
        axi, buses = self.axi, (self.fetch, self.load_weights, self.load_activations)
        m.submodules.owners = owners = Queue(2, self.config.axi_outstanding)

        # Cycle 1: the next burst, into the address register; its owner into the queue.
        turn = Signal()
        owner = Signal(2)
        with m.If(self.fetch.request.valid):
            m.d.comb += owner.eq(FETCH)
        with m.Elif(self.load_activations.request.valid & (turn | ~self.load_weights.request.valid)):
            m.d.comb += owner.eq(LOAD_ACTIVATIONS)
        with m.Else():
            m.d.comb += owner.eq(LOAD_WEIGHTS)
        free = (~axi.arvalid | axi.arready) & owners.i.ready & ~self.halt
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.Switch(owner):
            for number, bus in enumerate(buses):
                with m.Case(number):
                    m.d.comb += [bus.request.ready.eq(free), owners.i.valid.eq(bus.request.valid & free)]
                    with m.If(owners.i.valid):
                        m.d.sync += [
                            axi.arvalid.eq(1),
                            axi.araddr.eq(bus.request.p.address),
                            axi.arlen.eq(bus.request.p.beats),
                        ]
        m.d.comb += owners.i.payload.eq(owner)
        with m.If(owners.i.valid & (owner != FETCH)):
            m.d.sync += turn.eq(owner == LOAD_WEIGHTS)

        # The beats come in the order of the bursts. Those that no burst of this era waits for have no owner.
        owned = Signal()
        m.d.comb += [
            axi.rready.eq(1),
            owned.eq(axi.rvalid & owners.o.valid & (axi.rid == self.era)),
            owners.o.ready.eq(owned & axi.rlast),
            self.counts.read_beat.eq(owned),
        ]
        beat, error = Signal(self.config.axi_data_bits), Signal()
        m.d.sync += [beat.eq(axi.rdata), error.eq(axi.rresp != OKAY)]
        for number, bus in enumerate(buses):
            m.d.sync += bus.beat_valid.eq(owned & (owners.o.payload == number))
            m.d.comb += [bus.beat_data.eq(beat), bus.beat_error.eq(error)]
        return ~owners.o.valid

    def _write(self, m: Module):
        """Address, data and response of writes. Returns: none is in flight."""
        axi, store, limit = self.axi, self.store, self.config.axi_outstanding
        m.submodules.lengths = lengths = Queue(8, limit)
        unanswered = Signal(range(limit + 1))

        # The next burst, into the address register; its length into the queue.
        free = (~axi.awvalid | axi.awready) & (unanswered != limit) & lengths.i.ready & ~self.halt
        m.d.comb += [
            store.request.ready.eq(free),
            lengths.i.valid.eq(store.request.valid & free),
            lengths.i.payload.eq(store.request.p.beats),
        ]
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(lengths.i.valid):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(store.request.p.address),
                axi.awlen.eq(store.request.p.beats),
            ]

        # Beats of the oldest burst that is owed some. After halt they have no strobes.
        sent = Signal(8)
        take = Signal()
        last = sent == lengths.o.payload
        open_ = lengths.o.valid & (~axi.wvalid | axi.wready)
        m.d.comb += [
            store.beat.ready.eq(open_ & ~self.halt),
            take.eq(open_ & (store.beat.valid | self.halt)),
            lengths.o.ready.eq(take & last),
        ]
        with m.If(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(take):
            m.d.sync += [
                axi.wvalid.eq(1),
                axi.wdata.eq(store.beat.p.data),
                axi.wstrb.eq(Mux(self.halt, 0, store.beat.p.strobe)),
                axi.wlast.eq(last),
                sent.eq(Mux(last, 0, sent + 1)),
            ]

        answered = Signal()
        m.d.comb += [axi.bready.eq(1), answered.eq(axi.bvalid & (unanswered != 0) & (axi.bid == self.era))]
        m.d.sync += [
            unanswered.eq(unanswered + lengths.i.valid - answered),
            store.done.eq(answered),
            store.error.eq(axi.bresp != OKAY),
        ]
        return unanswered == 0
