"""Activation SRAM: banks between the units that read activations and those that write them."""

from functools import reduce
from operator import or_

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.config import Config
from systolith.hw.interfaces import SramRead, SramWrite
from systolith.hw.memory.ram import WideRam

__all__ = ["ActivationSram"]


class ActivationSram(wiring.Component):
    """`act_depth` words of N bytes in `act_banks` banks by the high address bits, each with a read and a write port.

    Parameters
    ----------
    config : Config
        `array`, `act_depth`, `act_banks` and `dw_taps`.

    Members
    -------
    execute_read, depthwise_read (with `dw_taps`), sfu_read, store_read : In(SramRead(act_depth, 8N))
        In order of priority: `execute_read.ready` is always 1, that of another is low while one before it reads its
        bank.
    sfu_write, load_write : In(SramWrite(act_depth, 8N))
        Likewise: `sfu_write.ready` is always 1, `load_write.ready` is low while the SFU writes its bank.
    conflicts : Out(3)
        Requests refused in this cycle.

    Latency of a read is READ_LATENCY = 2: the bank, then a register behind the multiplexer of banks. Throughput is one
    request a cycle on every port that does not meet another in its bank; `ready` is combinational from the ports before
    it. A write is readable from the next cycle on. A read of a word that is written in the same cycle returns anything;
    tokens exclude it. `data` keeps the last word read. An address past the last word reads anything and writes nothing.
    """

    def __init__(self, config: Config):
        self.width = 8 * config.array
        self.banks = [WideRam(config.act_depth // config.act_banks, self.width) for _ in range(config.act_banks)]
        self.parts = self.banks[0].parts
        self.row_bits = ceil_log2(config.act_depth // config.act_banks)
        self.readers = ["execute_read", *(["depthwise_read"] if config.dw_taps else []), "sfu_read", "store_read"]
        super().__init__(
            {
                **{name: In(SramRead(config.act_depth, self.width)) for name in self.readers},
                "sfu_write": In(SramWrite(config.act_depth, self.width)),
                "load_write": In(SramWrite(config.act_depth, self.width)),
                "conflicts": Out(3),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for i, bank in enumerate(self.banks):
            m.submodules[f"bank_{i}"] = bank
        readers = tuple(getattr(self, name) for name in self.readers)
        writers = (self.sfu_write, self.load_write)

        self._arbitrate(m, readers)
        self._arbitrate(m, writers)
        m.d.comb += self.conflicts.eq(sum((port.valid & ~port.ready for port in (*readers, *writers)), Const(0, 1)))
        for i, bank in enumerate(self.banks):
            # Backwards, so that the port of the highest priority has the last word.
            for port in reversed(readers):
                with m.If(port.valid & (self._bank_of(port) == i)):
                    m.d.comb += [bank.read_enable.eq(1), bank.read_address.eq(port.address[: self.row_bits])]
            for port in reversed(writers):
                with m.If(port.valid & (self._bank_of(port) == i)):
                    m.d.comb += [
                        bank.write_address.eq(port.address[: self.row_bits]),
                        bank.write_data.eq(port.data),
                        bank.write_mask.eq(port.mask),
                    ]
        for port in readers:
            self._return(m, port)
        return m

    def _bank_of(self, port):
        return port.address[self.row_bits :] if len(self.banks) > 1 else Const(0, 1)

    def _arbitrate(self, m: Module, ports: tuple):
        """A port is ready if no port before it wants the same bank."""
        for i, port in enumerate(ports):
            rivals = (other.valid & (self._bank_of(other) == self._bank_of(port)) for other in ports[:i])
            m.d.comb += port.ready.eq(~reduce(or_, rivals, Const(0, 1)))

    def _return(self, m: Module, port):
        """Cycle 1: the bank reads. Cycle 2: its word goes through the multiplexer into the port's register."""
        arrived = Signal()
        bank = Signal(len(self._bank_of(port)))
        data = Signal(self.width, reset_less=True)
        m.d.sync += [arrived.eq(port.valid & port.ready), bank.eq(self._bank_of(port))]
        with m.If(arrived):
            with m.Switch(bank):
                for i, ram in enumerate(self.banks):
                    with m.Case(i):
                        m.d.sync += data.eq(ram.read_data)
        m.d.comb += port.data.eq(data)
