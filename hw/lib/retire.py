"""Retirement: instructions wait here, in order, from their start until their last sum is written.

It is the last stage of EXECUTE and of the depthwise unit.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from systolith.hw.interfaces import INDEX_BITS
from systolith.hw.lib.queue import Queue
from systolith.isa import UNITS

__all__ = ["Retire", "Started", "connect_retired"]

IN_FLIGHT = 32
"""Instructions between their start and retirement, with their CONFIG."""


class Started(data.Struct):
    """An instruction on its way to retirement: `executes` if that needs its last sum, else (CONFIG) at once."""

    signal: UNITS
    index: INDEX_BITS
    executes: 1


def connect_retired(m: Module, unit, stage) -> None:
    """What a unit's last stage retires, with its tokens, is what the unit retires."""
    m.d.comb += [
        unit.give.eq(stage.give),
        unit.retired.eq(stage.retired),
        unit.retired_index.eq(stage.retired_index),
    ]


class Retire(wiring.Component):
    """Retires in order: CONFIG at once, the others each with a pulse of `finished`.

    Members
    -------
    started : In(stream of Started)
        In program order; refused while 32 instructions are in flight.
    finished : In(1)
        The last sum of an instruction has been written.
    stopped : In(1)
        Nothing retires any more.
    retired, retired_index, give : Out
        As in UnitPort; one instruction a cycle.
    busy : Out(1)
        Something is still to retire, or retires now.
    """

    started: stream.Interface
    finished: Signal
    stopped: Signal
    retired: Signal
    retired_index: Signal
    give: Signal
    busy: Signal

    def __init__(self):
        super().__init__(
            {
                "started": In(stream.Signature(Started)),
                "finished": In(1),
                "stopped": In(1),
                "retired": Out(1),
                "retired_index": Out(INDEX_BITS),
                "give": Out(UNITS),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.in_flight = in_flight = Queue(Started, IN_FLIGHT)
        connect(m, flipped(self.started), in_flight.i)

        # Sums may be finished while a CONFIG in front of their instruction retires.
        finished, retire = Signal(range(IN_FLIGHT + 1)), Signal()
        oldest = in_flight.o.p
        m.d.comb += [
            retire.eq(in_flight.o.valid & (~oldest.executes | (finished != 0)) & ~self.stopped),
            in_flight.o.ready.eq(retire),
            self.busy.eq(in_flight.o.valid | self.retired),
        ]
        m.d.sync += [
            finished.eq(finished + self.finished - (retire & oldest.executes)),
            self.retired.eq(retire),
            self.retired_index.eq(oldest.index),
            self.give.eq(Mux(retire, oldest.signal, 0)),
        ]
        return m
