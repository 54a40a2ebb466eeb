"""Weight SRAM: between the weight load unit, which fills it, and the array, which streams tiles from it."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from systolith.config import Config
from systolith.hw.interfaces import SramRead, SramWrite
from systolith.hw.ram import WideRam

__all__ = ["WeightSram"]


class WeightSram(wiring.Component):
    """`weight_depth` words of N bytes, one read and one write port.

    Parameters
    ----------
    config : Config
        `array` and `weight_depth`.

    Members
    -------
    read : In(SramRead(weight_depth, 8N)), write : In(SramWrite(weight_depth, 8N))
        Both are always ready.

    Latency of a read is READ_LATENCY = 2: the memory and a register behind it. A write is readable from the next cycle
    on. A read of a word that is written in the same cycle returns anything; tokens exclude it. `data` keeps the last
    word read.
    """

    def __init__(self, config: Config):
        self.ram = WideRam(config.weight_depth, 8 * config.array)
        self.parts = self.ram.parts
        super().__init__(
            {
                "read": In(SramRead(config.weight_depth, 8 * config.array)),
                "write": In(SramWrite(config.weight_depth, 8 * config.array)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self.ram
        connect_read(m, ram, self.read)
        m.d.comb += [
            self.write.ready.eq(1),
            ram.write_address.eq(self.write.address),
            ram.write_data.eq(self.write.data),
            ram.write_mask.eq(self.write.mask & self.write.valid.replicate(len(self.write.mask))),
        ]
        return m


def connect_read(m: Module, ram: WideRam, read) -> None:
    """An always ready read port of a memory of its own: the memory's cycle, then the output register's."""
    arrived = Signal()
    data = Signal(len(read.data), reset_less=True)
    m.d.comb += [
        read.ready.eq(1),
        ram.read_enable.eq(read.valid),
        ram.read_address.eq(read.address),
        read.data.eq(data),
    ]
    m.d.sync += arrived.eq(read.valid)
    with m.If(arrived):
        m.d.sync += data.eq(ram.read_data)
