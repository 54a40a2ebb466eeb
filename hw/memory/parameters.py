"""Parameter SRAM: between the weight load unit, which fills it in chunks, and the SFU, which reads whole words."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from systolith.config import Config
from systolith.hw.interfaces import SramRead, SramWrite
from systolith.hw.memory.ram import WideRam
from systolith.hw.memory.weights import connect_read

__all__ = ["CHUNKS", "ParameterSram"]

CHUNKS = 8
"""Chunks of N bytes in a word: bias and scale of N channels, 8 bytes each."""


class ParameterSram(wiring.Component):
    """`param_depth` words of 8 N bytes, read whole, written in chunks of N bytes.

    Parameters
    ----------
    config : Config
        `array` and `param_depth`.

    Members
    -------
    read : In(SramRead(param_depth, 64N))
        Always ready.
    write : In(SramWrite(8 * param_depth, 8N))
        Always ready. Chunk address = 8 * word + chunk; bytes of it as `mask` says.

    Latency of a read is READ_LATENCY = 2: the memory and a register behind it. A write is readable from the next cycle
    on. A read of a word that is written in the same cycle returns anything; tokens exclude it. `data` keeps the last
    word read.
    """

    def __init__(self, config: Config):
        self.ram = WideRam(config.param_depth, 8 * CHUNKS * config.array)
        self.parts = self.ram.parts
        super().__init__(
            {
                "read": In(SramRead(config.param_depth, 8 * CHUNKS * config.array)),
                "write": In(SramWrite(CHUNKS * config.param_depth, 8 * config.array)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self.ram
        connect_read(m, ram, self.read)
        chunk, word = self.write.address[:3], self.write.address[3:]
        m.d.comb += [
            self.write.ready.eq(1),
            ram.write_address.eq(word),
            ram.write_data.eq(self.write.data.replicate(CHUNKS)),
        ]
        with m.If(self.write.valid):
            m.d.comb += ram.write_mask.word_select(chunk, len(self.write.mask)).eq(self.write.mask)
        return m
