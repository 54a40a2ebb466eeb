"""The SFU's last stage in a lane: any function of an int8 value, from a table of 256 entries."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from systolith.hw.sfu.requantize import register
from systolith.isa import form

__all__ = ["ENABLE_AFTER", "LATENCY", "Table"]

LATENCY = 2
"""Cycles from a value to the output."""
ENABLE_AFTER = LATENCY - 1
FORM = form("CONFIG.SFU.table")
INDEX_BITS, ENTRY_BITS = FORM["index"].bits, FORM["entries"].bits
ROWS, ROW_ENTRIES = 1 << INDEX_BITS, ENTRY_BITS // 8


class Table(wiring.Component):
    """table[value], or the value as it is.

    Members
    -------
    value : In(signed(8))
    enable : In(1)
        Look the value up that came `ENABLE_AFTER` cycles before.
    output : Out(signed(8))
    fill : In(1), index : In(5), entries : In(64)
        Entries 8 * index up become these bytes, the first one lowest; a value that comes in the next cycle sees them.

    Latency is `LATENCY` cycles, throughput one value a cycle. Small memories of a row for each eight entries, which map
    to distributed memory; every lane has a copy.
    """

    value: Signal
    enable: Signal
    output: Signal
    fill: Signal
    index: Signal
    entries: Signal

    def __init__(self):
        super().__init__(
            {
                "value": In(signed(8)),
                "enable": In(1),
                "output": Out(signed(8)),
                "fill": In(1),
                "index": In(INDEX_BITS),
                "entries": In(ENTRY_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        attributes = {"no_rw_check": 1, "ram_style": "distributed"}
        m.submodules.memory = memory = Memory(shape=unsigned(8 * ROW_ENTRIES), depth=ROWS, init=[], attrs=attributes)
        write, read = memory.write_port(), memory.read_port()

        # Cycle 1: read the row. Cycle 2: choose the entry.
        value, output = register(8), register(signed(8))
        m.d.comb += [
            write.en.eq(self.fill),
            write.addr.eq(self.index),
            write.data.eq(self.entries),
            read.addr.eq(self.value[3:]),
            self.output.eq(output),
        ]
        m.d.sync += [
            value.eq(self.value),
            output.eq(Mux(self.enable, read.data.word_select(value[:3], 8), value)),
        ]
        return m
