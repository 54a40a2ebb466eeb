"""The memory under every SRAM controller: one read and one write port, byte write masks, made of equal parts.

A wide memory is built from modules of 8 (or 4) bytes that are emitted once and instantiated by name, so that neither
the generator nor a simulator ever handles one huge memory, and each maps to FPGA block RAM by itself.
"""

from functools import cache

from amaranth.hdl import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.hw.lib.verilog import instantiate

__all__ = ["Ram", "WideRam"]


def ram_members(depth: int, width: int) -> dict:
    """What a memory of `depth` words of `width` bits has."""
    return {
        "read_enable": In(1),
        "read_address": In(ceil_log2(depth)),
        "read_data": Out(width),
        "write_address": In(ceil_log2(depth)),
        "write_data": In(width),
        "write_mask": In(width // 8),
    }


class Ram(wiring.Component):
    """A memory of `depth` words of `width` bits.

    Members
    -------
    read_enable, read_address : In
        Data of that word is there one cycle later, and stays until the next read.
    read_data : Out(width)
    write_address, write_data, write_mask : In
        Bytes whose mask bit is set are written; readable from the next cycle on.

    One read and one write a cycle. A read of a word that is written in the same cycle returns anything. A word that was
    never written holds anything.
    """

    def __init__(self, depth: int, width: int):
        self.depth, self.width = depth, width
        super().__init__(ram_members(depth, width))

    def elaborate(self, platform):
        m = Module()
        # Without the attribute Yosys builds logic around block RAM for reads of a word that is being written.
        memory = Memory(shape=unsigned(self.width), depth=self.depth, init=[], attrs={"no_rw_check": 1})
        m.submodules.memory = memory
        read = memory.read_port()
        write = memory.write_port(granularity=8)
        m.d.comb += [
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write_mask),
        ]
        return m


@cache
def _shared_ram(depth: int, width: int) -> Ram:
    """All memories of a size share one part: Amaranth warns of components that are made and never converted."""
    return Ram(depth, width)


class WideRam(wiring.Component):
    """A memory like `Ram`, of any width that is a multiple of 32 bits, from parts side by side."""

    def __init__(self, depth: int, width: int):
        self.width = width
        self.part_width = 64 if width % 64 == 0 else 32
        self.part_name = f"ram_{depth}x{self.part_width}"
        self.parts = {self.part_name: _shared_ram(depth, self.part_width)}
        super().__init__(ram_members(depth, width))

    def elaborate(self, platform):
        m = Module()
        ram = self.parts[self.part_name]
        for i in range(self.width // self.part_width):
            m.submodules[f"part_{i}"] = instantiate(
                self.part_name,
                ram,
                read_enable=self.read_enable,
                read_address=self.read_address,
                read_data=self.read_data.word_select(i, self.part_width),
                write_address=self.write_address,
                write_data=self.write_data.word_select(i, self.part_width),
                write_mask=self.write_mask.word_select(i, self.part_width // 8),
            )
        return m
