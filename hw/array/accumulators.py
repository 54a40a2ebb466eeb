"""Accumulators: where the sums of a tile's K tiles come together, one memory pair for each column of the array.

Data flow: the array's sums come in, with control from `execute`; the SFU reads whole rows. Two halves, so that it
drains one tile while the array fills the next.
"""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.config import Config
from systolith.hw.interfaces import SramRead
from systolith.hw.lib.verilog import instantiate

__all__ = ["REPEAT", "AccumulatorColumn", "AccumulatorControl", "Accumulators"]

REPEAT = 4
"""Cycles from an accumulator row to the same one again, at least: read, choice of half, addition, write."""


class AccumulatorControl(data.StructLayout):
    """What to do with a row of sums: overwrite accumulator row `address`, or add to it; `last` ends an instruction."""

    def __init__(self, depth: int):
        super().__init__({"valid": 1, "address": ceil_log2(depth), "accumulate": 1, "last": 1})


class AccumulatorColumn(wiring.Component):
    """The int32 accumulators of one column: two memories, one for each half, each with one read and one write port.

    Parameters
    ----------
    depth : int
        Rows, both halves together.
    sum_bits : int
        Width of what is added.

    Members
    -------
    control : In(AccumulatorControl), control_right : Out(...)
        Aligned with `sum`; one cycle later to the next column.
    sum : In(signed(sum_bits))
        From the bottom of the column.
    read_valid : In(1), read_address : In, read_data : Out(signed(32))
        For the SFU, two cycles from address to data; not the half that `control` is in.
    finished : Out(1)
        Pulses in the cycle after the write of a row marked `last`.

    Takes a row a cycle. A row is written 3 cycles after it came, so the same address may come again after 4. There is
    no back-pressure.
    """

    control: data.View
    control_right: data.View
    sum: Signal
    read_valid: Signal
    read_address: Signal
    read_data: Signal
    finished: Signal

    def __init__(self, depth: int, sum_bits: int):
        self.depth, self.sum_bits = depth, sum_bits
        control = AccumulatorControl(depth)
        super().__init__(
            {
                "control": In(control),
                "control_right": Out(control),
                "sum": In(signed(sum_bits)),
                "read_valid": In(1),
                "read_address": In(ceil_log2(depth)),
                "read_data": Out(signed(32)),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        control_shape = self.control.shape()

        # Cycle 1: address to the memories. The control of this and the next two cycles goes with the row.
        controls = [self.control, *(Signal(control_shape, name=f"control{i}") for i in (1, 2, 3))]
        for before, after in pairwise(controls):
            m.d.sync += after.eq(before)
        m.d.comb += self.control_right.eq(controls[1])
        sum1 = Signal(signed(self.sum_bits), reset_less=True)
        sum2 = Signal(signed(self.sum_bits), reset_less=True)
        total = Signal(signed(32), reset_less=True)

        halves = []
        for half in range(2):
            m.submodules[f"half{half}"] = store = memory.Memory(shape=32, depth=self.depth // 2, init=[])
            read, write = store.read_port(), store.write_port()
            updates = Signal(name=f"updates{half}")
            m.d.comb += [
                updates.eq(self.control.valid & (self.control.address[-1] == half)),
                read.en.eq(updates | (self.read_valid & (self.read_address[-1] == half))),
                read.addr.eq(Mux(updates, self.control.address, self.read_address)),
                # Cycle 4: write.
                write.en.eq(controls[3].valid & (controls[3].address[-1] == half)),
                write.addr.eq(controls[3].address),
                write.data.eq(total),
            ]
            halves.append(read.data.as_signed())

        # Cycle 2: choose the half. Cycle 3: add.
        old = Signal(signed(32), reset_less=True)
        m.d.sync += [
            sum1.eq(self.sum),
            sum2.eq(sum1),
            old.eq(Mux(controls[1].accumulate, Mux(controls[1].address[-1], halves[1], halves[0]), 0)),
            total.eq(old + sum2),
            self.finished.eq(controls[3].valid & controls[3].last),
        ]

        read_half = Signal()
        m.d.sync += [
            read_half.eq(self.read_address[-1]),
            self.read_data.eq(Mux(read_half, halves[1], halves[0])),
        ]
        return m


class Accumulators(wiring.Component):
    """N columns of accumulators.

    Members
    -------
    control : In(AccumulatorControl)
        Aligned with the sum of column 0; column c gets it c cycles later.
    sums : In(ArrayLayout(signed(psum_bits), N))
        From the array, lane c for column c.
    read : In(SramRead(acc_depth, 32N))
        A row of all columns for the SFU, always ready; tokens keep it out of the half the array is in.
    finished : Out(1)
        Pulses when the row marked `last` has been written in the last column.

    Takes a row a cycle, the same address again after 4 cycles. There is no back-pressure.
    """

    control: data.View
    sums: data.View
    read: wiring.PureInterface
    finished: Signal

    def __init__(self, config: Config):
        self.config = config
        self.parts = {"accumulator_column": AccumulatorColumn(config.acc_depth, config.psum_bits)}
        super().__init__(
            {
                "control": In(AccumulatorControl(config.acc_depth)),
                "sums": In(data.ArrayLayout(signed(config.psum_bits), config.array)),
                "read": In(SramRead(config.acc_depth, 32 * config.array)),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.read.ready.eq(1)
        control, columns = self.control, []
        for c in range(self.config.array):
            control_right = Signal(control.shape(), name=f"control{c}")
            column, finished = Signal(32, name=f"column{c}"), Signal(name=f"finished{c}")
            m.submodules[f"column{c}"] = instantiate(
                "accumulator_column",
                self.parts["accumulator_column"],
                control=control,
                control_right=control_right,
                sum=self.sums[c],
                read_valid=self.read.valid,
                read_address=self.read.address,
                read_data=column,
                finished=finished,
            )
            control = control_right
            columns.append(column)
        m.d.comb += [self.read.data.eq(Cat(columns)), self.finished.eq(finished)]
        return m
