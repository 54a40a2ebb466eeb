"""Weight SRAM: between the weight load unit, which fills it, and the array, which streams tiles from it.

The depthwise unit, where there is one, reads its taps from it, too.
"""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from systolith.config import Config
from systolith.hw.interfaces import SramRead, SramWrite
from systolith.hw.memory.ram import WideRam

__all__ = ["WeightSram"]


class WeightSram(wiring.Component):
    """`weight_depth` words of N bytes, one read and one write port.

    Parameters
    ----------
    config : Config
        `array`, `weight_depth` and `dw_taps`.

    Members
    -------
    read : In(SramRead(weight_depth, 8N)), write : In(SramWrite(weight_depth, 8N))
        Both are always ready.
    depthwise_read : In(SramRead(weight_depth, 8N))
        Only with `dw_taps`. `ready` is low while `read` is used.

    Latency of a read is READ_LATENCY = 2: the memory and a register behind it. A write is readable from the next cycle
    on. A read of a word that is written in the same cycle returns anything; tokens exclude it. `data` keeps the last
    word read.
    """

    def __init__(self, config: Config):
        self.ram = WideRam(config.weight_depth, 8 * config.array)
        self.parts = self.ram.parts
        self.has_depthwise = config.dw_taps > 0
        port = SramRead(config.weight_depth, 8 * config.array)
        super().__init__(
            {
                "read": In(port),
                **({"depthwise_read": In(port)} if self.has_depthwise else {}),
                "write": In(SramWrite(config.weight_depth, 8 * config.array)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self.ram
        connect_read(m, ram, self.read)
        if self.has_depthwise:
            second, taken = self.depthwise_read, Signal()
            m.d.comb += [second.ready.eq(~self.read.valid), taken.eq(second.valid & second.ready)]
            with m.If(taken):
                m.d.comb += _take(ram, second)
            _return_data(m, ram, second, taken)
        m.d.comb += [
            self.write.ready.eq(1),
            ram.write_address.eq(self.write.address),
            ram.write_data.eq(self.write.data),
            ram.write_mask.eq(self.write.mask & self.write.valid.replicate(len(self.write.mask))),
        ]
        return m


def connect_read(m: Module, ram: WideRam, read) -> None:
    """An always ready read port of a memory of its own: the memory's cycle, then the output register's."""
    m.d.comb += [read.ready.eq(1), *_take(ram, read)]
    _return_data(m, ram, read, read.valid)


def _take(ram: WideRam, read) -> list:
    return [ram.read_enable.eq(read.valid), ram.read_address.eq(read.address)]


def _return_data(m: Module, ram: WideRam, read, taken: Value) -> None:
    """What was taken from the memory one cycle ago goes to the port's own register."""
    arrived = Signal()
    data = Signal(len(read.data), reset_less=True)
    m.d.comb += read.data.eq(data)
    m.d.sync += arrived.eq(taken)
    with m.If(arrived):
        m.d.sync += data.eq(ram.read_data)
