"""The depthwise unit's second stage: reads the input words of each pass, one a cycle, and marks their use.

DepthwisePasses -> DepthwiseWalk -> activation SRAM -> lanes
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.config import Config
from systolith.hw.array.accumulators import REPEAT, AccumulatorControl
from systolith.hw.depthwise.lane import LATENCY, LaneStep
from systolith.hw.interfaces import INDEX_BITS, POSITION_BITS, READ_LATENCY, ErrorCode, Fault, SramRead
from systolith.hw.lib.delay import delayed
from systolith.isa import ACC_BITS, ADDRESS_BITS, COUNT_BITS, EXTENT_BITS, STEP_BITS, VALUE_BITS

__all__ = ["DepthwiseWalk", "Pass"]


class Pass(data.Struct):
    """Some neighbouring taps, for all outputs of an instruction; or what is wrong with it.

    `address`, `y`, `x`: the first word that is read; `step_x`, `step_y`, `line_step`: to the next word, and line. The
    first `lead_x` words of a line, and the first `lead_y` lines, complete no window; the next does, and after that
    `again_x` words, `again_y` lines are left out each time. `y` and `x` are two's complement; as unsigned numbers,
    positions before the tensor are beyond it too. `small`: fewer outputs than the accumulators take cycles.
    """

    address: ADDRESS_BITS
    y: POSITION_BITS
    x: POSITION_BITS
    step_x: STEP_BITS
    step_y: STEP_BITS
    line_step: ADDRESS_BITS
    lead_x: 2
    lead_y: 2
    again_x: 2
    again_y: 2
    rows: COUNT_BITS
    cols: COUNT_BITS
    small: 1
    height: EXTENT_BITS
    width: EXTENT_BITS
    zero_point: signed(VALUE_BITS)
    acc: ACC_BITS
    accumulate: 1
    last: 1
    index: INDEX_BITS
    error: ErrorCode


class DepthwiseWalk(wiring.Component):
    """One input word a cycle, in reading order: columns inside lines.

    Members
    -------
    passes : In(stream of Pass)
        Taken in the cycle of the last word of the pass before, when its taps are loaded.
    swapped : Out(1)
        Pulse: the first word of a pass is on its way, so the next pass's taps may be read from the next cycle on.
    activations : Out(SramRead(act_depth, 8N))
        Waits where it is refused; not asked for padding.
    step : Out(LaneStep), control : Out(AccumulatorControl)
        To the lanes: with the data, and `LATENCY` cycles later.
    fed : Out(1), busy : Out(1), fault : Out(Fault), halt : In(1)
        `fed`: a word, or padding, was taken. A fault stays.

    A pass that adds to fewer than REPEAT rows of accumulators waits for 3 cycles before it starts.
    """

    passes: stream.Interface
    swapped: Signal
    activations: wiring.PureInterface
    step: data.View
    control: data.View
    fed: Signal
    busy: Signal
    fault: data.View
    halt: Signal

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "passes": In(stream.Signature(Pass)),
                "swapped": Out(1),
                "activations": Out(SramRead(config.act_depth, 8 * config.array)),
                "step": Out(LaneStep(config)),
                "control": Out(AccumulatorControl(config.dw_depth)),
                "fed": Out(1),
                "busy": Out(1),
                "fault": Out(Fault),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        now, active, first, fresh = Signal(Pass), Signal(), Signal(), Signal()
        waiting, go, column = Signal(), Signal(), Signal(self.step.shape()["column"].width)

        # What the current word is.
        left_rows, left_cols = Signal.like(now.rows), Signal.like(now.cols)
        skip_x, skip_y = Signal.like(now.lead_x), Signal.like(now.lead_y)
        completes, last_col, ends, inside = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            completes.eq((skip_x == 0) & (skip_y == 0)),
            last_col.eq((skip_x == 0) & (left_cols == 1)),
            ends.eq(last_col & (skip_y == 0) & (left_rows == 1)),
            inside.eq((now.y < now.height) & (now.x < now.width)),
            self.busy.eq(active | waiting),
        ]
        error = self._check(m, now, inside, completes & ~fresh)
        with m.If(active & (self.fault.code == ErrorCode.NONE)):
            m.d.sync += [self.fault.code.eq(error), self.fault.index.eq(now.index)]

        hold, move = Signal(range(REPEAT)), Signal()
        m.d.comb += [
            move.eq(~waiting | self.fed),
            go.eq(active & move & (hold == 0) & (error == ErrorCode.NONE) & ~self.halt),
            self.passes.ready.eq(~active | (go & ends)),
        ]
        with m.If(move & (hold != 0)):
            m.d.sync += hold.eq(hold - 1)

        # The next word: next column, or next line, or next pass.
        line_address, line_x = Signal.like(now.address), Signal.like(now.x)
        after = self.passes.p
        with m.If(self.passes.valid & self.passes.ready):
            m.d.sync += [
                active.eq(1),
                first.eq(1),
                fresh.eq(1),
                hold.eq(Mux(after.accumulate & after.small, REPEAT - 1, 0)),
                now.eq(after),
                line_address.eq(after.address + after.line_step),
                line_x.eq(after.x),
                left_rows.eq(after.rows),
                left_cols.eq(after.cols),
                skip_x.eq(after.lead_x),
                skip_y.eq(after.lead_y),
                column.eq(0),
            ]
        with m.Elif(go):
            m.d.sync += [active.eq(~ends), first.eq(0)]
            with m.If(completes):
                m.d.sync += [now.acc.eq(now.acc + 1), fresh.eq(0)]
            with m.If(last_col):
                m.d.sync += [
                    now.address.eq(line_address),
                    now.x.eq(line_x),
                    now.y.eq(now.y + now.step_y),
                    line_address.eq(line_address + now.line_step),
                    left_cols.eq(now.cols),
                    skip_x.eq(now.lead_x),
                    column.eq(0),
                ]
                with m.If(skip_y == 0):
                    m.d.sync += [skip_y.eq(now.again_y), left_rows.eq(left_rows - 1)]
                with m.Else():
                    m.d.sync += skip_y.eq(skip_y - 1)
            with m.Else():
                m.d.sync += [
                    now.address.eq(now.address + now.step_x),
                    now.x.eq(now.x + now.step_x),
                    column.eq(column + 1),
                ]
                with m.If(skip_x == 0):
                    m.d.sync += [skip_x.eq(now.again_x), left_cols.eq(left_cols - 1)]
                with m.Else():
                    m.d.sync += skip_x.eq(skip_x - 1)

        step, control = Signal(self.step.shape()), Signal(self.control.shape())
        m.d.comb += [
            step.valid.eq(1),
            step.real.eq(inside),
            step.swap.eq(first),
            step.column.eq(column),
            step.zero_point.eq(now.zero_point),
            control.valid.eq(completes),
            control.address.eq(now.acc),
            control.accumulate.eq(now.accumulate),
            control.last.eq(ends & now.last),
        ]
        self._request(m, go, waiting, now.address, step, control)
        return m

    def _check(self, m: Module, now, inside: Signal, continues) -> Signal:
        """What is wrong with the pass, or with the current word. `continues`: it completes not the first output."""
        error = Signal(ErrorCode)
        with m.If(now.error != ErrorCode.NONE):
            m.d.comb += error.eq(now.error)
        with m.Elif(inside & (now.address >= self.config.act_depth)):
            m.d.comb += error.eq(ErrorCode.SRAM_RANGE)
        with m.Elif(continues & (now.acc & (self.config.dw_half - 1) == 0)):
            m.d.comb += error.eq(ErrorCode.OPERAND)
        return error

    def _request(self, m: Module, go: Signal, waiting: Signal, address, step: Signal, control: Signal) -> None:
        """Cycle 2: the request, until it is taken. Cycle 4: the data. Much later: the accumulators."""
        request = Signal(data.StructLayout({"step": self.step.shape(), "control": self.control.shape()}))
        m.d.comb += [
            self.activations.valid.eq(waiting & request.step.real & ~self.halt),
            self.fed.eq(waiting & ~self.halt & (self.activations.ready | ~request.step.real)),
            self.swapped.eq(self.fed & request.step.swap),
        ]
        with m.If(go):
            m.d.sync += [
                waiting.eq(1),
                request.step.eq(step),
                request.control.eq(control),
                self.activations.address.eq(address),
            ]
        with m.Elif(self.fed):
            m.d.sync += waiting.eq(0)

        taken = Signal.like(request)
        with m.If(self.fed):
            m.d.comb += taken.eq(request)
        arrived = data.View(taken.shape(), delayed(m, taken, READ_LATENCY, "taken_line"))
        m.d.comb += [
            self.step.eq(arrived.step),
            self.control.eq(data.View(control.shape(), delayed(m, arrived.control, LATENCY, "control_line"))),
        ]
