"""The unit EXECUTE: address generator of convolutions, from instructions to rows and weights for the array.

queue -> WeightStage -> TileStage -> RowStage -> array -> accumulators -> finished -> retirement
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from systolith.config import Config
from systolith.hw.array.accumulators import AccumulatorControl
from systolith.hw.array.array import Row, WeightWord
from systolith.hw.execute.rows import RowStage
from systolith.hw.execute.tiles import TileStage
from systolith.hw.execute.weights import WeightStage
from systolith.hw.interfaces import ErrorCode, Issued, SramRead, TokenPort, UnitPort
from systolith.hw.lib.queue import Queue
from systolith.hw.lib.retire import Retire, connect_retired

__all__ = ["ExecuteCounts", "ExecuteUnit"]

AHEAD = 8
"""Instructions between the weight stage and the row stage: two EXECUTE with their CONFIG."""


class ExecuteCounts(data.Struct):
    """Exactly one of these each cycle: a row was fed; or there was none because weights were missing, or the tokens of
    the row stage; or there was nothing to do."""

    fed: 1
    wait_weights: 1
    wait_tokens: 1
    idle: 1


class ExecuteUnit(wiring.Component):
    """The unit EXECUTE.

    Parameters
    ----------
    config : Config

    Members
    -------
    unit : Out(UnitPort)
        Its `tokens` are those of the row stage: all but LOAD_W.
    weight_tokens : Out(TokenPort)
        Of the weight stage: only LOAD_W.
    weights : Out(SramRead(weight_depth, 8N)), activations : Out(SramRead(act_depth, 8N))
        Both are always taken.
    weight : Out(WeightWord(N)), row : Out(Row(N)), control : Out(AccumulatorControl)
        To the array and the accumulators.
    finished : In(1)
        The last sum of an EXECUTE has been written: the oldest one in flight retires, and gives its tokens.
    counts : Out(ExecuteCounts)

    An EXECUTE of K tiles and M rows costs K * max(M, N) cycles in steady state, across instructions too; a CONFIG costs
    one cycle, beside the rows. The first row comes about N + 7 cycles after its instruction. After a fault nothing more
    starts and nothing retires.
    """

    unit: wiring.PureInterface
    weight_tokens: wiring.PureInterface
    weights: wiring.PureInterface
    activations: wiring.PureInterface
    weight: data.View
    row: data.View
    control: data.View
    finished: Signal
    counts: data.View

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "weight_tokens": Out(TokenPort()),
                "weights": Out(SramRead(config.weight_depth, 8 * config.array)),
                "activations": Out(SramRead(config.act_depth, 8 * config.array)),
                "weight": Out(WeightWord(config.array)),
                "row": Out(Row(config.array)),
                "control": Out(AccumulatorControl(config.acc_depth)),
                "finished": In(1),
                "counts": Out(ExecuteCounts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        unit = self.unit
        m.submodules.weight_stage = weight_stage = WeightStage(self.config)
        m.submodules.ahead = ahead = Queue(Issued, AHEAD)
        m.submodules.tile_stage = tile_stage = TileStage()
        m.submodules.row_stage = row_stage = RowStage(self.config)
        m.submodules.retirement = retirement = Retire()

        connect(m, weight_stage.instruction, flipped(unit.instruction))
        connect(m, weight_stage.tokens, flipped(self.weight_tokens))
        connect(m, weight_stage.weights, flipped(self.weights))
        connect(m, weight_stage.issued, ahead.i)
        connect(m, ahead.o, tile_stage.instruction)
        connect(m, tile_stage.tokens, flipped(unit.tokens))
        connect(m, tile_stage.tile, row_stage.tile)
        connect(m, row_stage.activations, flipped(self.activations))
        m.d.comb += [
            weight_stage.swapped.eq(row_stage.swapped),
            row_stage.loaded.eq(weight_stage.loaded),
            self.weight.eq(weight_stage.weight),
            self.row.eq(row_stage.row),
            self.control.eq(row_stage.control),
        ]

        # The first fault stops the unit, and stays.
        stopped = Signal()
        m.d.comb += stopped.eq(unit.halt | (unit.fault.code != ErrorCode.NONE))
        for stage in (weight_stage, tile_stage, row_stage):
            m.d.comb += stage.halt.eq(stopped)
        with m.If(unit.fault.code == ErrorCode.NONE):
            m.d.sync += unit.fault.eq(
                Mux(row_stage.fault.code != ErrorCode.NONE, row_stage.fault.as_value(), weight_stage.fault.as_value())
            )

        connect(m, tile_stage.started, retirement.started)
        connect_retired(m, unit, retirement)
        m.d.comb += [
            retirement.finished.eq(self.finished),
            retirement.stopped.eq(unit.fault.code != ErrorCode.NONE),
            unit.busy.eq(weight_stage.busy | ahead.o.valid | tile_stage.busy | row_stage.busy | retirement.busy),
        ]

        # Why there is no row: the oldest reason counts.
        counts, present = self.counts, Signal()
        m.d.comb += present.eq(
            unit.instruction.valid | weight_stage.busy | ahead.o.valid | tile_stage.busy | row_stage.busy
        )
        with m.If(row_stage.fed):
            m.d.comb += counts.fed.eq(1)
        with m.Elif(~present | stopped):
            m.d.comb += counts.idle.eq(1)
        with m.Elif(~row_stage.busy & ~tile_stage.busy & ahead.o.valid & ~unit.tokens.ready):
            m.d.comb += counts.wait_tokens.eq(1)
        with m.Else():
            m.d.comb += counts.wait_weights.eq(1)
        return m
