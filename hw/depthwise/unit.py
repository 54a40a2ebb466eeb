"""The unit DEPTHWISE: convolves each channel with taps of its own, beside the array.

queue -> DepthwisePasses -> DepthwiseWalk -> N lanes, with the accumulators -> retirement
              |-> weight SRAM  |-> activation SRAM          |-> SFU
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from systolith.config import Config
from systolith.hw.depthwise.lane import DepthwiseLane
from systolith.hw.depthwise.passes import DepthwisePasses
from systolith.hw.depthwise.walk import DepthwiseWalk
from systolith.hw.interfaces import ErrorCode, SramRead, UnitPort
from systolith.hw.lib.retire import Retire, connect_retired
from systolith.hw.lib.verilog import instantiate

__all__ = ["DepthwiseCounts", "DepthwiseUnit"]


class DepthwiseCounts(data.Struct):
    """Cycles in which an input word, or padding, was taken; and in which there was none to take, for a token was
    missing."""

    busy: 1
    wait_tokens: 1


class DepthwiseUnit(wiring.Component):
    """The unit DEPTHWISE; only where `dw_taps` is not 0.

    Parameters
    ----------
    config : Config
        `array`, `dw_taps`, `dw_depth` and the depths of the SRAMs.

    Members
    -------
    unit : Out(UnitPort)
    weights : Out(SramRead(weight_depth, 8N)), activations : Out(SramRead(act_depth, 8N))
        May be refused, and then wait.
    read : In(SramRead(dw_depth, 32N))
        A row of the accumulators for the SFU, always ready; tokens keep it out of the half that is being filled.
    counts : Out(DepthwiseCounts)

    An instruction takes a cycle for each input word of its passes. A pass is for as many kernel taps as a lane has
    multipliers, if they are neighbours: for one; or for up to three of a kernel row (`dw_taps` 3 and 9: dilation_x 1,
    stride_x 1 to 3); or for that in up to three kernel rows (9: dilation_y 1, stride_y 1 to 3, at least 2 columns, and
    (cols - 1) * stride_x + 3 <= min(dw_depth, 256), the length of the line buffers). A pass for w of a row's taps reads
    cols words a line if w is 1, else (cols - 1) * stride_x + w; a pass for h rows reads rows lines if h is 1, else
    (rows - 1) * stride_y + h. Passes and instructions follow each other without a gap if a pass reads at least 4 words
    more than the next one has taps, and no read is refused; with fewer than 4 outputs, 3 cycles pass between passes.
    The first word is read max(6, w * h + 3) cycles after its instruction, which retires 13 cycles after its last word.
    After a fault nothing more starts and nothing retires; sums of the instruction at fault may have been written.
    """

    unit: wiring.PureInterface
    weights: wiring.PureInterface
    activations: wiring.PureInterface
    read: wiring.PureInterface
    counts: data.View

    def __init__(self, config: Config):
        self.config = config
        self.parts = {"depthwise_lane": DepthwiseLane(config)}
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "weights": Out(SramRead(config.weight_depth, 8 * config.array)),
                "activations": Out(SramRead(config.act_depth, 8 * config.array)),
                "read": In(SramRead(config.dw_depth, 32 * config.array)),
                "counts": Out(DepthwiseCounts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        unit = self.unit
        m.submodules.stage = stage = DepthwisePasses(self.config)
        m.submodules.walk = walk = DepthwiseWalk(self.config)
        m.submodules.retirement = retirement = Retire()
        connect(m, stage.instruction, flipped(unit.instruction))
        connect(m, stage.tokens, flipped(unit.tokens))
        connect(m, stage.weights, flipped(self.weights))
        connect(m, stage.started, retirement.started)
        connect_retired(m, unit, retirement)
        connect(m, stage.passes, walk.passes)
        connect(m, walk.activations, flipped(self.activations))
        finished = self._lanes(m, stage, walk)

        stopped = Signal()
        m.d.comb += [
            stopped.eq(unit.halt | (walk.fault.code != ErrorCode.NONE)),
            stage.halt.eq(stopped),
            walk.halt.eq(stopped),
            stage.swapped.eq(walk.swapped),
            unit.fault.eq(walk.fault),
            retirement.finished.eq(finished),
            retirement.stopped.eq(stopped),
            unit.busy.eq(stage.busy | walk.busy | retirement.busy),
            self.counts.busy.eq(walk.fed),
            self.counts.wait_tokens.eq(unit.instruction.valid & ~unit.tokens.ready & ~walk.busy),
        ]
        return m

    def _lanes(self, m: Module, stage: DepthwisePasses, walk: DepthwiseWalk) -> Signal:
        """A lane for each channel. Returns: an instruction's last sum has been written."""
        m.d.comb += self.read.ready.eq(1)
        sums = []
        for c in range(self.config.array):
            accumulated, finished = Signal(32, name=f"lane{c}"), Signal(name=f"finished{c}")
            m.submodules[f"lane{c}"] = instantiate(
                "depthwise_lane",
                self.parts["depthwise_lane"],
                step=walk.step,
                value=self.activations.data.word_select(c, 8),
                tap=stage.tap,
                weight=self.weights.data.word_select(c, 8),
                control=walk.control,
                read_valid=self.read.valid,
                read_address=self.read.address,
                read_data=accumulated,
                finished=finished,
            )
            sums.append(accumulated)
        m.d.comb += self.read.data.eq(Cat(sums))
        return finished
