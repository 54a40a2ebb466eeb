"""The depthwise unit's first stage: takes instructions, reads their taps, and divides them into passes.

queue -> DepthwisePasses -> DepthwiseWalk
              |-> weight SRAM -> lanes
A pass serves as many neighbouring taps as a lane has multipliers, or fewer: `window` has their number in a kernel row
and in a kernel column. While the walk is in one pass, the taps of the next one are read, of this instruction or of the
next.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith import isa
from systolith.config import Config
from systolith.hw.array.accumulators import REPEAT
from systolith.hw.depthwise.lane import LaneTap, line_length, window
from systolith.hw.depthwise.walk import Pass
from systolith.hw.interfaces import READ_LATENCY, ErrorCode, Issued, SramRead, TokenPort, fields_layout, header, payload
from systolith.hw.lib.decode import config_register, connect_start, is_form, packed
from systolith.hw.lib.delay import delayed
from systolith.hw.lib.retire import Started
from systolith.hw.lib.stride_product import multiply
from systolith.isa import ADDRESS_BITS

__all__ = ["DepthwisePasses"]

DEPTHWISE = isa.form("DEPTHWISE")
INPUT = isa.form("CONFIG.DEPTHWISE.input")
KERNEL = isa.form("CONFIG.DEPTHWISE.kernel")
LONGEST_STRIDE = 3
"""Words between two outputs up to which it is faster to read them all than to read each tap's own."""


class DepthwisePasses(wiring.Component):
    """Makes passes, in the order kernel y, kernel x.

    Members
    -------
    instruction : In(stream of Issued), tokens : Out(TokenPort), started : Out(stream of Started)
        An instruction is taken, with all its tokens, when the last pass of the one before goes. A CONFIG takes one
        cycle.
    weights : Out(SramRead(weight_depth, 8N)), tap : Out(LaneTap)
        `tap` comes with the data, for the lanes.
    swapped : In(1)
        Pulse: the shadow taps are free from the next cycle on.
    passes : Out(stream of Pass)
        Once its taps have been read; an error comes as a pass of its own, in its turn, and nothing after it.
    busy : Out(1), halt : In(1)

    The taps of a pass are read in as many cycles, from the second cycle after `swapped` on, unless they are refused.
    """

    instruction: stream.Interface
    tokens: wiring.PureInterface
    started: stream.Interface
    weights: wiring.PureInterface
    tap: data.View
    swapped: Signal
    passes: stream.Interface
    busy: Signal
    halt: Signal

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "instruction": In(stream.Signature(Issued)),
                "tokens": Out(TokenPort()),
                "started": Out(stream.Signature(Started)),
                "weights": Out(SramRead(config.weight_depth, 8 * config.array)),
                "tap": Out(LaneTap(config)),
                "swapped": In(1),
                "passes": Out(stream.Signature(Pass)),
                "busy": Out(1),
                "halt": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self.tensor, self.kernel = (config_register(m, self.instruction, form) for form in (INPUT, KERNEL))
        self.active, self.error = Signal(), Signal(ErrorCode)
        self.width, self.height = Signal(range(4)), Signal(range(4))
        self.last_x, self.last_y, self.taken = Signal(), Signal(), Signal()
        fetched, ready = Signal(), Signal()

        start = self._accept(m)
        self._fetch(m, start, fetched)
        self._divide(m, start, ready)
        m.d.comb += [
            self.passes.valid.eq(self.active & ready & (fetched | (self.error != ErrorCode.NONE)) & ~self.halt),
            self.taken.eq(self.passes.valid & self.passes.ready),
            self.busy.eq(self.active),
        ]
        with m.If(start):
            m.d.sync += self.active.eq(1)
        with m.Elif(self.taken):
            # After an error nothing starts any more.
            m.d.sync += self.active.eq(~(self.last_x & self.last_y) | (self.error != ErrorCode.NONE))
        return m

    def _accept(self, m: Module) -> Signal:
        """Take instructions in order, check them, apply CONFIG. Returns: there is something to do, from here on."""
        word = self.instruction.p.word
        run, kernel, is_run = payload(DEPTHWISE, word), self.kernel, is_form(DEPTHWISE, word)
        code, start = Signal(ErrorCode), Signal()
        zeros = Cat(value == 0 for value in (run.rows, run.cols, kernel.kernel_y, kernel.kernel_x))
        with m.If(~is_run & ~is_form(INPUT, word) & ~is_form(KERNEL, word)):
            m.d.comb += code.eq(ErrorCode.OPCODE)
        with m.Elif(is_run & zeros.any()):
            m.d.comb += code.eq(ErrorCode.OPERAND)
        with m.Elif(is_run & (run.acc >= self.config.dw_depth)):
            m.d.comb += code.eq(ErrorCode.SRAM_RANGE)

        accept = connect_start(m, self, self.started, ~self.active & ~self.halt, code)
        m.d.comb += [
            start.eq(accept & (is_run | (code != ErrorCode.NONE))),
            self.started.p.signal.eq(header(word).signal),
            self.started.p.index.eq(self.instruction.p.index),
            self.started.p.executes.eq(is_run | (code != ErrorCode.NONE)),
        ]
        with m.If(start):
            m.d.sync += self.error.eq(code)
        return start

    def _fetch(self, m: Module, start: Signal, fetched: Signal) -> None:
        """Read the taps of a pass, once the shadow taps are free."""
        rows, cols = window(self.config)
        # Where the pass, its row of taps, and its tap are; with a bit more, so that nothing wraps.
        group, line, word = (Signal(ADDRESS_BITS + 1, name=name) for name in ("group", "line", "word"))
        row, col, free = Signal(range(rows + 1)), Signal(range(cols + 1)), Signal(init=1)
        fetch, get, beyond, last_row, last_col = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            fetch.eq(self.active & ~fetched & free & (self.error == ErrorCode.NONE) & ~self.halt),
            beyond.eq(word >= self.config.weight_depth),
            self.weights.valid.eq(fetch & ~beyond),
            self.weights.address.eq(word),
            get.eq(self.weights.valid & self.weights.ready),
            last_row.eq(row + 1 == self.height),
            last_col.eq(col + 1 == self.width),
        ]
        with m.If(fetch & beyond):
            m.d.sync += self.error.eq(ErrorCode.SRAM_RANGE)
        with m.If(self.swapped):
            m.d.sync += free.eq(1)
        with m.If(get):
            m.d.sync += [col.eq(col + 1), word.eq(word + 1)]
            with m.If(last_col):
                m.d.sync += [col.eq(0), row.eq(row + 1)]
                with m.If(last_row):
                    m.d.sync += [row.eq(0), fetched.eq(1), free.eq(0)]
                with m.Else():
                    m.d.sync += [line.eq(line + self.kernel.kernel_x), word.eq(line + self.kernel.kernel_x)]
        with m.If(self.taken):
            # Behind the last tap of a row of passes lies the first one of the next.
            origin = Mux(self.last_x, word, group + self.width)
            m.d.sync += [fetched.eq(0), *(address.eq(origin) for address in (group, line, word))]
        with m.If(start):
            origin = payload(DEPTHWISE, self.instruction.p.word).weight
            m.d.sync += [fetched.eq(0), *(address.eq(origin) for address in (group, line, word))]

        tap = Signal(self.tap.shape())
        places = ((self.height == row + r + 1) & (self.width == col + c + 1) for r in range(rows) for c in range(cols))
        with m.If(get):
            m.d.comb += [tap.load.eq(Cat(places)), tap.first.eq((row == 0) & (col == 0))]
        m.d.comb += self.tap.eq(data.View(tap.shape(), delayed(m, tap, READ_LATENCY, "tap_line")))

    def _divide(self, m: Module, start: Signal, ready: Signal) -> None:
        """Where each pass starts, and how many taps it is for; `ready` when that is worked out."""
        rows, cols = window(self.config)
        run, kernel, tensor = payload(DEPTHWISE, self.instruction.p.word), self.kernel, self.tensor
        job = Signal(fields_layout(DEPTHWISE))
        wide, high, index, accumulate = Signal(), Signal(), Signal.like(self.instruction.p.index), Signal()
        rest_x, rest_y = Signal.like(kernel.kernel_x), Signal.like(kernel.kernel_y)
        m.d.comb += [
            self.width.eq(Mux(wide, Mux(rest_x < cols, rest_x, cols), 1)),
            self.height.eq(Mux(high, Mux(rest_y < rows, rest_y, rows), 1)),
            self.last_x.eq(rest_x == self.width),
            self.last_y.eq(rest_y == self.height),
        ]

        address, row_address, x, y = (Signal.like(self.passes.p[name]) for name in ("address", "address", "x", "y"))
        line_step, row_step = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        is_wide, is_high = self._shape(run)
        multiplying = multiply(
            m,
            start,
            tensor.row_stride,
            [
                ((address, row_address), run.act + run.x0, run.y0),
                ((line_step,), Const(0), kernel.stride_y),
                ((row_step,), Const(0), Mux(is_high, rows, kernel.dilation_y)),
            ],
        )
        kernel_step_x = Mux(wide, cols, kernel.dilation_x)
        kernel_step_y = Mux(high, rows, kernel.dilation_y)
        m.d.comb += ready.eq(~multiplying)
        with m.If(start):
            m.d.sync += [
                job.eq(run),
                index.eq(self.instruction.p.index),
                wide.eq(is_wide),
                high.eq(is_high),
                accumulate.eq(0),
                rest_x.eq(kernel.kernel_x),
                rest_y.eq(kernel.kernel_y),
                x.eq(run.x0),
                y.eq(run.y0),
            ]
        with m.Elif(self.taken):
            m.d.sync += accumulate.eq(1)
            with m.If(self.last_x):
                m.d.sync += [
                    rest_x.eq(kernel.kernel_x),
                    rest_y.eq(rest_y - self.height),
                    address.eq(row_address + row_step),
                    row_address.eq(row_address + row_step),
                    x.eq(job.x0),
                    y.eq(y + kernel_step_y),
                ]
            with m.Else():
                m.d.sync += [
                    rest_x.eq(rest_x - self.width),
                    address.eq(address + kernel_step_x),
                    x.eq(x + kernel_step_x),
                ]

        single_x, single_y = self.width == 1, self.height == 1
        m.d.comb += self.passes.p.as_value().eq(
            packed(
                m,
                Pass,
                {
                    "address": address,
                    "y": y,
                    "x": x,
                    "step_x": Mux(single_x, kernel.stride_x, 1),
                    "step_y": Mux(single_y, kernel.stride_y, 1),
                    "line_step": Mux(single_y, line_step, tensor.row_stride),
                    "lead_x": self.width - 1,
                    "lead_y": self.height - 1,
                    "again_x": Mux(single_x, 0, kernel.stride_x - 1),
                    "again_y": Mux(single_y, 0, kernel.stride_y - 1),
                    "rows": job.rows,
                    "cols": job.cols,
                    "small": ((job.rows == 1) & (job.cols < REPEAT)) | ((job.cols == 1) & (job.rows < REPEAT)),
                    "height": tensor.height,
                    "width": tensor.width,
                    "zero_point": tensor.zero_point,
                    "acc": job.acc,
                    "accumulate": accumulate,
                    "last": self.last_x & self.last_y,
                    "index": index,
                    "error": self.error,
                },
            )
        )

    def _shape(self, run):
        """Whether passes of this instruction are for several taps of a kernel row, and of a kernel column."""
        rows, cols = window(self.config)
        kernel, most = self.kernel, line_length(self.config)
        wide = (kernel.dilation_x == 1) & _short(kernel.stride_x) if cols > 1 else Const(0)
        if rows == 1:
            return wide, Const(0)
        # A line of input has to fit into the line buffers, and must not meet itself there.
        fits = run.cols <= most
        for stride in range(1, LONGEST_STRIDE + 1):
            fits &= ~wide | (kernel.stride_x != stride) | (run.cols <= (most - cols) // stride + 1)
        return wide, (kernel.dilation_y == 1) & _short(kernel.stride_y) & fits & (run.cols > 1)


def _short(stride):
    return (stride != 0) & (stride <= LONGEST_STRIDE)
