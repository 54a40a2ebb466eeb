"""Write bursts that wait for their response, in order, and with them the instructions that wait to retire.

Store -> Ledger <- responses from AxiMaster; -> tokens, retirement
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.interfaces import INDEX_BITS
from systolith.hw.lib.queue import Queue
from systolith.isa import UNITS

__all__ = ["Entry", "Ledger"]


class Entry(data.Struct):
    """A burst, or (`config`) an instruction without any. `last`: nothing more of its instruction follows."""

    index: INDEX_BITS
    signal: UNITS
    last: 1
    config: 1


class Ledger(wiring.Component):
    """Retires instructions as the responses of their bursts come.

    Parameters
    ----------
    config : Config
        `axi_outstanding`: responses that can come before they are looked at.

    Members
    -------
    entry : In(stream of Entry)
    done, error : In(1)
        Pulse: the oldest burst without a response has one; it is an error.
    give, retired, retired_index : as in UnitPort
        Two cycles after the last response.
    failed : Out(1), failed_index : Out(24)
        Pulse: a burst of this instruction failed. It does not retire.
    busy : Out(1)
    halt : In(1)
        Nothing retires: bursts may have been completed without their data.
    """

    entry: stream.Interface
    done: Signal
    error: Signal
    give: Signal
    retired: Signal
    retired_index: Signal
    failed: Signal
    failed_index: Signal
    busy: Signal
    halt: Signal

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "entry": In(stream.Signature(Entry)),
                "done": In(1),
                "error": In(1),
                "give": Out(UNITS),
                "retired": Out(1),
                "retired_index": Out(INDEX_BITS),
                "failed": Out(1),
                "failed_index": Out(INDEX_BITS),
                "busy": Out(1),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self.config.axi_outstanding
        m.submodules.entries = entries = Queue(Entry, depth + 2)
        m.submodules.responses = responses = Queue(1, depth)
        oldest = entries.o.p
        m.d.comb += [
            entries.i.p.eq(self.entry.p),
            entries.i.valid.eq(self.entry.valid),
            self.entry.ready.eq(entries.i.ready),
            responses.i.valid.eq(self.done),
            responses.i.payload.eq(self.error),
            entries.o.ready.eq((oldest.config | responses.o.valid) & ~self.halt),
            responses.o.ready.eq(entries.o.valid & ~oldest.config & ~self.halt),
            self.busy.eq(entries.o.valid | self.retired),
        ]
        taken = entries.o.valid & entries.o.ready
        bad = responses.o.payload & ~oldest.config
        m.d.comb += [self.failed.eq(taken & bad), self.failed_index.eq(oldest.index)]
        m.d.sync += [self.retired.eq(taken & oldest.last & ~bad), self.retired_index.eq(oldest.index), self.give.eq(0)]
        with m.If(taken & oldest.last & ~bad):
            m.d.sync += self.give.eq(oldest.signal)
        return m
