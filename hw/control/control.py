"""Control: fetch, dispatch, token counters and supervisor, wired to the port of each unit.

registers -> control -> units; control's own way to memory is fetch's read bus.
"""

from amaranth.hdl import Cat, Module, ResetInserter
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.control.dispatch import Dispatch
from systolith.hw.control.fetch import Fetch
from systolith.hw.control.registers import ErrorReport, Status
from systolith.hw.control.supervisor import Supervisor
from systolith.hw.control.tokens import Tokens, queued
from systolith.hw.interfaces import INDEX_BITS, ReadBus, Regions, TokenPort, UnitPort

__all__ = ["Control"]


class Control(wiring.Component):
    """Everything that runs a program, except the units.

    Parameters
    ----------
    config : Config
        AXI widths, queue depth, width of token counters, and whether there is a depthwise unit.

    Members
    -------
    load_weights, load_activations, execute, sfu, store, depthwise (with `dw_taps`) : In(UnitPort())
        The units; `execute_weights` : In(TokenPort()) is the second token port of `execute`.
    bus : Out(ReadBus), regions : Out(Regions)
        For instructions.
    start, reset, watchdog, status, report, notify, started, running
        To and from the registers, as in Supervisor.
    quiet : In(1), halt : Out(1), core_reset : Out(1)
        The memory port is quiet; stop; reset the units. Control resets its own parts with them.
    progress : In(1)
        Data moved somewhere. Instructions issued, retired and fetched are added here.
    retired, retired_index : Out(a bit for each unit), Out(indices)
        What the units retire, for observers.
    """

    def __init__(self, config: Config):
        self.config, self.units = config, queued(config)
        super().__init__(
            {
                **{name: In(UnitPort()) for name in self.units.values()},
                "execute_weights": In(TokenPort()),
                "bus": Out(ReadBus(config)),
                "regions": Out(Regions(config)),
                "start": In(1),
                "reset": In(1),
                "watchdog": In(32),
                "status": Out(Status),
                "report": Out(ErrorReport),
                "notify": Out(1),
                "started": Out(1),
                "running": Out(1),
                "quiet": In(1),
                "halt": Out(1),
                "core_reset": Out(1),
                "progress": In(1),
                "retired": Out(len(self.units)),
                "retired_index": Out(data.ArrayLayout(INDEX_BITS, len(self.units))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        supervisor = m.submodules.supervisor = Supervisor(self.config)
        fetch, dispatch, tokens = Fetch(self.config), Dispatch(self.config), Tokens(self.config)
        with_reset = ResetInserter(supervisor.core_reset)
        m.submodules.fetch, m.submodules.dispatch = with_reset(fetch), with_reset(dispatch)
        m.submodules.tokens = with_reset(tokens)

        wiring.connect(m, fetch.instruction, dispatch.instruction)
        wiring.connect(m, wiring.flipped(self.bus), fetch.bus)
        wiring.connect(m, tokens.execute_weights, wiring.flipped(self.execute_weights))
        m.d.comb += fetch.regions.table.eq(self.regions.table)
        for number, name in self.units.items():
            self._attach(m, number, name, dispatch, tokens, supervisor)
        self._supervise(m, fetch, dispatch, tokens, supervisor)
        return m

    def _attach(self, m: Module, number: int, name: str, dispatch: Dispatch, tokens: Tokens, supervisor: Supervisor):
        """Queue, tokens and reports of a unit."""
        unit = getattr(self, name)
        wiring.connect(m, getattr(dispatch, name), wiring.flipped(unit.instruction))
        wiring.connect(m, getattr(tokens, name), wiring.flipped(unit.tokens))
        m.d.comb += [
            unit.halt.eq(self.halt),
            dispatch.unit_busy[number].eq(unit.busy),
            tokens.give[number].eq(unit.give),
            self.retired[number].eq(unit.retired),
            self.retired_index[number].eq(unit.retired_index),
            supervisor.faults[number].eq(unit.fault),
        ]

    def _supervise(self, m: Module, fetch: Fetch, dispatch: Dispatch, tokens: Tokens, supervisor: Supervisor):
        for name in ("start", "reset", "watchdog", "quiet"):
            m.d.comb += getattr(supervisor, name).eq(getattr(self, name))
        for name in ("status", "report", "notify", "started", "running", "halt", "core_reset"):
            m.d.comb += getattr(self, name).eq(getattr(supervisor, name))
        m.d.comb += [
            fetch.start.eq(supervisor.started),
            fetch.halt.eq(supervisor.halt),
            dispatch.halt.eq(supervisor.halt),
            supervisor.finished.eq(dispatch.finished),
            supervisor.fetch_idle.eq(fetch.idle),
            supervisor.control_fault.eq(dispatch.fault),
            supervisor.overflow.eq(tokens.overflow),
            supervisor.retired_index.eq(self.retired_index),
            supervisor.missing.eq(tokens.missing),
            supervisor.missing_index.eq(tokens.missing_index),
            supervisor.progress.eq(Cat(self.progress, dispatch.issued, self.retired, self.bus.beat_valid).any()),
        ]
