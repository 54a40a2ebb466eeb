"""Dispatch: checks each instruction's header and puts it into the queue of its unit.

fetch -> dispatch -> an in-order queue for each unit -> units.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from systolith import isa
from systolith.config import Config
from systolith.hw.control.fetch import Fetched
from systolith.hw.control.tokens import queued
from systolith.hw.interfaces import ErrorCode, Fault, Issued, header
from systolith.isa import Opcode, Unit

__all__ = ["Dispatch", "legal"]


def _pairs(config: Config) -> list[tuple[Opcode, Unit]]:
    """The (opcode, unit) pairs that exist."""
    units = {*queued(config), Unit.CONTROL}
    pairs = {*isa.FORMATS, *((Opcode.CONFIG, unit) for unit, _ in isa.CONFIG_FORMATS)}
    return sorted((opcode, unit) for opcode, unit in pairs if unit in units)


def _mask(config: Config) -> int:
    """The units that tokens may name."""
    return sum(1 << unit for unit in queued(config))


def legal(config: Config, opcode: int, unit: int, wait: int, signal: int, reserved: int) -> bool:
    """Whether dispatch lets an instruction pass; the rest of it is the unit's to check."""
    if unit == Unit.CONTROL and (wait or signal):
        return False
    return (opcode, unit) in _pairs(config) and not (wait | signal) & ~_mask(config) and not reserved


class Dispatch(wiring.Component):
    """Hands each instruction to its unit's queue, in order.

    Parameters
    ----------
    config : Config
        `queue_depth`; and whether there is a depthwise unit.

    Members
    -------
    instruction : In(stream of Fetched)
        From fetch.
    load_weights, load_activations, execute, sfu, store, depthwise (with `dw_taps`) : Out(stream of Issued)
        Outputs of the queues.
    unit_busy : In(a bit for each unit)
        Of each unit; goes high in the cycle after an instruction left its queue at the latest.
    issued : Out(1)
        Pulse: an instruction went into a queue, or a FENCE was passed.
    finished : Out(1)
        Pulse: END was reached, and every unit is idle.
    fault : Out(Fault)
        What fetch sent instead of an instruction; or OPCODE for an instruction that is not `legal`: an opcode the unit
        does not have, a unit that does not exist in `unit`, `wait` or `signal`, tokens at FENCE or END.
    halt : In(1)
        Nothing more leaves fetch or the queues.

    One instruction a cycle. Waits at a full queue, and at FENCE and END until all queues are empty and all units idle.
    """

    def __init__(self, config: Config):
        self.config, self.units = config, queued(config)
        super().__init__({
            "instruction": In(stream.Signature(Fetched)),
            **{name: Out(stream.Signature(Issued)) for name in self.units.values()},
            "unit_busy": In(len(self.units)),
            "issued": Out(1),
            "finished": Out(1),
            "fault": Out(Fault),
            "halt": In(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        fetched = self.instruction.p
        head = header(fetched.issued.word)
        active = self.instruction.valid & ~self.halt

        push = Signal()
        accepted = Signal()
        levels = []
        for unit, name in self.units.items():
            queue = SyncFIFO(width=Issued.as_shape().size, depth=self.config.queue_depth)
            m.submodules[f"queue_{name}"] = queue
            output = getattr(self, name)
            m.d.comb += [
                queue.w_data.eq(fetched.issued),
                output.payload.eq(queue.r_data),
                output.valid.eq(queue.r_rdy & ~self.halt),
                queue.r_en.eq(output.ready & ~self.halt),
            ]
            with m.If(head.unit == unit):
                m.d.comb += [queue.w_en.eq(push), accepted.eq(queue.w_rdy)]
            levels.append(queue.level)

        is_legal = self._check(m, head)
        idle = ~Cat(levels).any() & ~self.unit_busy.any()
        with m.If(active):
            with m.If(fetched.code != ErrorCode.NONE):
                m.d.comb += self.fault.code.eq(fetched.code)
            with m.Elif(~is_legal):
                m.d.comb += self.fault.code.eq(ErrorCode.OPCODE)
            with m.Elif(head.unit == Unit.CONTROL):
                m.d.comb += self.instruction.ready.eq(idle)
            with m.Else():
                m.d.comb += [push.eq(1), self.instruction.ready.eq(accepted)]
        m.d.comb += [
            self.fault.index.eq(fetched.issued.index),
            self.issued.eq(self.instruction.ready),
            self.finished.eq(self.issued & (head.opcode == Opcode.END)),
        ]
        return m

    def _check(self, m: Module, head) -> Signal:
        is_legal = Signal()
        with m.Switch(Cat(head.opcode, head.unit)):
            for opcode, unit in _pairs(self.config):
                with m.Case(opcode | unit << 4):
                    m.d.comb += is_legal.eq(1)
        masks = head.wait | head.signal
        with m.If(head.reserved | (masks & ~_mask(self.config)).any() | ((head.unit == Unit.CONTROL) & masks.any())):
            m.d.comb += is_legal.eq(0)
        return is_legal
