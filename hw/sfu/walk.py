"""The SFU's second stage: starts instructions and walks through them, one access to each of its memories a cycle.

SfuSetup (setup.py) -> SfuWalk -> the pipeline of unit.py, which reads the words of each step and writes the results
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.config import Config
from systolith.hw.interfaces import INDEX_BITS, ErrorCode, Fault, TokenPort
from systolith.hw.sfu.job import SOURCE_BITS, Job
from systolith.hw.sfu.position import SfuWindow
from systolith.isa import SecondOperand, SfuSource

__all__ = ["CONTEXT_BITS", "SfuCounts", "SfuWalk", "Step"]

CONTEXT_BITS = 5
"""Instructions whose results are on their way have different numbers."""


class SfuCounts(data.Struct):
    """One bit each for a cycle in which values enter the pipeline, and one in which only a token is missing."""

    busy: 1
    wait_tokens: 1


class Step(data.StructLayout):
    """What happens in one cycle, for channels `group` of an output.

    `tap`: a value enters, the `first` one of its window, or not; it comes from `row` of the accumulators that `memory`
    names, or from activation SRAM, or (not `inside`) it is `pad`. `reads_activations`: `word` of activation SRAM is
    read, the value or the second operand. `emit`: the window is complete. `write`: so is the output, which goes to
    `dst`. `retire`: so is the instruction. `context` names the instruction.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "tap": 1,
                "first": 1,
                "sum": 1,
                "memory": SOURCE_BITS,
                "inside": 1,
                "pad": signed(8),
                "row": ceil_log2(max(config.acc_depth, config.dw_depth)),
                "reads_activations": 1,
                "word": ceil_log2(config.act_depth),
                "emit": 1,
                "write": 1,
                "retire": 1,
                "group": max(ceil_log2(config.array // config.sfu_lanes), 1),
                "dst": ceil_log2(config.act_depth),
                "context": CONTEXT_BITS,
            }
        )


class SfuWalk(wiring.Component):
    """Runs jobs in order, one step a cycle, also from one job to the next.

    Members
    -------
    job : In(stream of Job), tokens : Out(TokenPort()), fault : Out(Fault), halt : In(1)
        A job starts, and is taken, when the one before makes its last step, and its tokens are there.
    begin : Out(1), context : Out(CONTEXT_BITS)
        A job starts, whose steps will carry this number. It comes again after 2^CONTEXT_BITS jobs.
    fill : Out(1)
        It is a CONFIG of the table, of which every result before has been written.
    step : Out(stream of Step)
        A job that is not an SFU instruction takes one step, too, which only retires.
    empty : In(1)
        Every result of the steps before has been written, and can be read from the next cycle on.
    active : Out(1)
        A job is here that has not made its last step.
    counts : Out(SfuCounts)

    Faults, in the order of instructions: those of the job, instead of its start; OPERAND for a position outside the
    half of the accumulators that `source` is in, SRAM_RANGE for a word that activation SRAM does not have (of the
    window, of the operand, or of this step's output), in place of the step. Then everything here stops; the
    next job may have started.
    """

    job: stream.Interface
    tokens: wiring.PureInterface
    step: stream.Interface
    begin: Signal
    context: Signal
    fill: Signal
    fault: data.View
    halt: Signal
    empty: Signal
    active: Signal
    counts: data.View

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(Job)),
                "tokens": Out(TokenPort()),
                "step": Out(stream.Signature(Step(config))),
                "begin": Out(1),
                "context": Out(CONTEXT_BITS),
                "fill": Out(1),
                "fault": Out(Fault),
                "halt": In(1),
                "empty": In(1),
                "active": Out(1),
                "counts": Out(SfuCounts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.window = window = SfuWindow(self.config)
        running, runs, made, advance, ends = Signal(), Signal(), Signal(), Signal(), Signal()
        self._start(m, running, ends, made)
        self._step(m, window, advance, running, runs, made)
        m.d.comb += [
            window.load.eq(self.begin),
            window.start.eq(self.job.p.walk),
            window.advance.eq(advance),
            ends.eq(advance & (~runs | window.position.last)),
            self.active.eq(self.job.valid | running | made),
            self.counts.busy.eq(self.step.valid & self.step.ready & (self.step.p.tap | self.step.p.emit)),
        ]
        with m.If(self.begin):
            m.d.sync += runs.eq(self.job.p.runs)
        return m

    def _start(self, m: Module, running: Signal, ends: Signal, made: Signal):
        """Take the next job, or report what is wrong with it, once the one before makes its last step."""
        job = self.job.p
        free, good, able, stopped, drained = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(~running | ends),
            stopped.eq(self.halt | (self.fault.code != ErrorCode.NONE)),
            good.eq(self.job.valid & (job.code == ErrorCode.NONE)),
            drained.eq(~(job.drain | job.fills) | (self.empty & ~running & ~made)),
            able.eq(good & free & drained & ~stopped),
            self.tokens.need.eq(Mux(good, job.wait, 0)),
            self.tokens.index.eq(job.index),
            self.begin.eq(able & self.tokens.ready),
            self.tokens.take.eq(self.begin),
            self.job.ready.eq(self.begin),
            self.fill.eq(self.begin & job.fills),
            self.counts.wait_tokens.eq(able & ~self.tokens.ready),
        ]
        with m.If(self.begin):
            m.d.sync += [running.eq(1), self.context.eq(self.context + 1)]
        with m.Elif(ends):
            m.d.sync += running.eq(0)
        with m.If(self.job.valid & ~running & ~made & ~stopped & ~good):
            m.d.sync += [self.fault.code.eq(job.code), self.fault.index.eq(job.index)]

    def _step(self, m: Module, window: SfuWindow, advance: Signal, running: Signal, runs: Signal, made: Signal):
        """Make the step of this position, and check it; what is wrong shows when it would be made."""
        walk, now, step = window.walk, window.position, self.step.p
        index, context = Signal(INDEX_BITS), Signal(CONTEXT_BITS)
        code, wrong, wrong_index = Signal(ErrorCode), Signal(ErrorCode), Signal(INDEX_BITS)
        from_activations, operand, needs_word = Signal(), Signal(), Signal()
        past = [address >= self.config.act_depth for address in (now.address, now.operand, now.dst)]
        m.d.comb += [
            from_activations.eq(walk.memory == SfuSource.ACTIVATIONS),
            operand.eq(now.at_operand | (now.last_tap & ~from_activations & (walk.second != SecondOperand.NONE))),
            needs_word.eq(operand | (now.inside & from_activations)),
        ]
        with m.If(now.inside & ~from_activations & self._left_half(walk, now.address)):
            m.d.comb += code.eq(ErrorCode.OPERAND)
        with m.Elif((needs_word & Mux(operand, past[1], past[0])) | past[2]):
            m.d.comb += code.eq(ErrorCode.SRAM_RANGE)

        m.d.comb += [
            self.step.valid.eq(made & (wrong == ErrorCode.NONE)),
            advance.eq(running & ~self.halt & (~made | (self.step.valid & self.step.ready))),
        ]
        with m.If(advance):
            m.d.sync += [
                made.eq(1),
                wrong.eq(Mux(runs, code, ErrorCode.NONE)),
                wrong_index.eq(index),
                step.tap.eq(runs & ~now.at_operand),
                step.first.eq(now.first),
                step.sum.eq(walk.sum),
                step.memory.eq(walk.memory),
                step.inside.eq(now.inside),
                step.pad.eq(walk.pad),
                step.row.eq(now.address),
                step.reads_activations.eq(runs & needs_word),
                step.word.eq(Mux(operand, now.operand, now.address)),
                step.emit.eq(runs & now.emit),
                step.write.eq(runs & now.emit & now.last_group),
                step.retire.eq(~runs | now.last),
                step.group.eq(now.group),
                step.dst.eq(now.dst),
                step.context.eq(context),
            ]
        with m.Elif(self.step.valid & self.step.ready):
            m.d.sync += made.eq(0)
        with m.If(made & (wrong != ErrorCode.NONE) & ~self.halt):
            m.d.sync += [self.fault.code.eq(wrong), self.fault.index.eq(wrong_index)]
        with m.If(self.begin):
            m.d.sync += [index.eq(self.job.p.index), context.eq(self.context)]

    def _left_half(self, walk, address):
        """The accumulator row is in the other half, or in none."""
        acc_bits, dw_bits = (ceil_log2(half) for half in (self.config.acc_half, self.config.dw_half))
        left = address[acc_bits:] != walk.half
        if self.config.dw_taps:
            left = Mux(walk.memory == SfuSource.DEPTHWISE, address[dw_bits:] != walk.half, left)
        return left
