"""Supervisor: starts, watches and stops the core, and reports the result to the registers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.control.registers import ErrorReport, Status
from systolith.hw.control.tokens import queued
from systolith.hw.interfaces import INDEX_BITS, ErrorCode, Fault
from systolith.isa import UNITS, Unit

__all__ = ["RESET_CYCLES", "Supervisor"]

RESET_CYCLES = 4
"""How long a soft reset is held."""


class State(enum.Enum, shape=3):
    IDLE = 0
    RUN = 1
    DRAIN = 2
    FAILED = 3
    STOP = 4
    RESET = 5


class Supervisor(wiring.Component):
    """The state of the accelerator as a whole. Outside of the core's reset, which it makes.

    Parameters
    ----------
    config : Config
        Which units there are.

    Members
    -------
    start, reset : In(1)
        Pulses from the registers. `start` begins a program (`started`), from idle only.
    started : Out(1), running : Out(1)
        Pulse to fetch and counters in the cycle of `start`; and the cycles after it up to done or error.
    finished : In(1), fetch_idle : In(1)
        END was reached and all units are idle; it is done once fetch is idle, too.
    faults : In(Faults), control_fault : In(Fault), overflow : In(a bit for each unit), retired_index : In(indices)
        Of the units; of dispatch; of the token counters (the instruction is the one that retires).
    missing, missing_index : In(masks), In(indices)
        From the token counters, for the watchdog's report.
    progress : In(1), watchdog : In(32)
        `watchdog` cycles in a row without progress are an error; 0 is never.
    halt : Out(1), quiet : In(1), core_reset : Out(1)
        After an error, and in a soft reset, `halt` is up; a soft reset waits for `quiet` of the memory port, then
        resets the core for RESET_CYCLES cycles.
    status : Out(Status), report : Out(ErrorReport), notify : Out(1)
        For the registers. `busy` stays up after an error until the memory port is quiet. `notify` pulses at done and at
        an error.

    The first fault is kept. Of several in one cycle it is dispatch's, then that of the unit with the lowest number,
    then token overflows in the same order. Faults count only while `running`, from the cycle after they are seen.
    """

    def __init__(self, config: Config):
        self.units = tuple(queued(config))
        units = len(self.units)
        super().__init__(
            {
                "start": In(1),
                "reset": In(1),
                "started": Out(1),
                "running": Out(1),
                "finished": In(1),
                "fetch_idle": In(1),
                "faults": In(data.ArrayLayout(Fault, units)),
                "control_fault": In(Fault),
                "overflow": In(units),
                "retired_index": In(data.ArrayLayout(INDEX_BITS, units)),
                "missing": In(data.ArrayLayout(UNITS, units)),
                "missing_index": In(data.ArrayLayout(INDEX_BITS, units)),
                "progress": In(1),
                "watchdog": In(32),
                "halt": Out(1),
                "quiet": In(1),
                "core_reset": Out(1),
                "status": Out(Status),
                "report": Out(ErrorReport),
                "notify": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        state = Signal(State)
        remaining = Signal(range(RESET_CYCLES))
        fault, unit = self._first_fault(m)
        hung = self._watch(m)
        m.d.comb += [
            self.started.eq(self.start & (state == State.IDLE)),
            self.running.eq((state == State.RUN) | (state == State.DRAIN)),
            self.halt.eq((state == State.FAILED) | (state == State.STOP) | (state == State.RESET)),
            self.core_reset.eq(state == State.RESET),
            self.status.error.eq(state == State.FAILED),
            self.status.busy.eq(Mux(state == State.FAILED, ~self.quiet, state != State.IDLE)),
        ]

        with m.Switch(state):
            with m.Case(State.IDLE):
                with m.If(self.start):
                    m.d.sync += [state.eq(State.RUN), self.status.done.eq(0)]
            with m.Case(State.RUN):
                with m.If(self.finished):
                    m.d.sync += state.eq(State.DRAIN)
            with m.Case(State.DRAIN):
                with m.If(self.fetch_idle):
                    m.d.sync += [state.eq(State.IDLE), self.status.done.eq(1)]
                    m.d.comb += self.notify.eq(1)
            with m.Case(State.STOP):
                with m.If(self.quiet):
                    m.d.sync += [state.eq(State.RESET), remaining.eq(RESET_CYCLES - 1)]
            with m.Case(State.RESET):
                m.d.sync += remaining.eq(remaining - 1)
                with m.If(remaining == 0):
                    m.d.sync += state.eq(State.IDLE)
        with m.If(self.running & ((fault.code != ErrorCode.NONE) | hung)):
            m.d.comb += self.notify.eq(1)
            m.d.sync += [
                state.eq(State.FAILED),
                self.status.done.eq(0),
                self.report.eq(Cat(fault.code, unit, Const(0, 16), fault.index)),
            ]
            with m.If(fault.code == ErrorCode.NONE):
                m.d.sync += self.report.eq(self._diagnosis(m))
        with m.If(self.reset & (state != State.RESET)):
            m.d.sync += [state.eq(State.STOP), self.status.done.eq(0), self.report.eq(0)]
        return m

    def _first_fault(self, m: Module):
        """The fault to keep, and whose it is."""
        fault, owner = Signal(Fault, name="fault"), Signal(8, name="fault_unit")
        sources = [(Unit.CONTROL, self.control_fault.code, self.control_fault.index)]
        sources += [(unit, self.faults[unit].code, self.faults[unit].index) for unit in self.units]
        for unit in self.units:
            code = Mux(self.overflow[unit], ErrorCode.TOKEN_OVERFLOW, ErrorCode.NONE)
            sources.append((unit, code, self.retired_index[unit]))
        for unit, code, index in reversed(sources):
            with m.If(code != ErrorCode.NONE):
                m.d.comb += [fault.code.eq(code), owner.eq(unit), fault.index.eq(index)]
        return fault, owner

    def _watch(self, m: Module):
        """Count cycles without progress. Returns: there were too many."""
        still = Signal(32)
        with m.If(~self.running | self.progress):
            m.d.sync += still.eq(0)
        with m.Else():
            m.d.sync += still.eq(still + 1)
        return (self.watchdog != 0) & (still >= self.watchdog)

    def _diagnosis(self, m: Module):
        """Of a hung program: the first unit that waits for a token, and whose token it waits for."""
        found = Signal(ErrorReport, name="diagnosis")
        m.d.comb += [found.code.eq(ErrorCode.WATCHDOG), found.unit.eq(Unit.CONTROL)]
        for unit in reversed(self.units):
            with m.If(self.missing[unit].any()):
                m.d.comb += [
                    found.unit.eq(unit),
                    found.detail.eq(self.missing[unit]),
                    found.index.eq(self.missing_index[unit]),
                ]
        return found
