"""AXI4-Lite slave with the registers of `systolith.registers`: the host's side of the accelerator."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from systolith import registers
from systolith.config import Config
from systolith.hw.interfaces import INDEX_BITS, ErrorCode, Regions

__all__ = ["Axi4Lite", "Counts", "ErrorReport", "Registers", "Status"]


class Axi4Lite(wiring.Signature):
    """AXI4-Lite with 32 bits of data, seen from the master. Member names are the standard's."""

    def __init__(self):
        super().__init__({
            "awaddr": Out(registers.ADDRESS_BITS), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(registers.ADDRESS_BITS), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
            "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })  # fmt: skip


class Response(enum.Enum, shape=2):
    OKAY = 0
    SLVERR = 2


class Status(data.Struct):
    """Register `status`, from bit 0 up."""

    busy: 1
    done: 1
    error: 1


class ErrorReport(data.Struct):
    """Registers `error` and `error_instruction`."""

    code: ErrorCode
    unit: 8
    detail: 16
    index: INDEX_BITS


Counts = data.StructLayout({name: 3 if name == "bank_conflicts" else 1 for name, _ in registers.COUNTERS})
"""What each counter of `systolith.registers.COUNTERS` goes up by in a cycle."""


class Registers(wiring.Component):
    """The register file.

    Parameters
    ----------
    config : Config
        Fingerprint and address width.

    Members
    -------
    axil : In(Axi4Lite())
        One access at a time: a write takes 3 cycles, a read 2. Refused accesses: see `systolith.registers`.
    start, reset : Out(1)
        Pulses: the host wrote the bit of `control`. A start that would be refused gives no pulse.
    status : In(Status), report : In(ErrorReport), notify : In(1)
        From the supervisor; a pulse of `notify` sets the interrupt pending.
    clear, counting, counts : In(1), In(1), In(Counts)
        The counters are cleared, or go up.
    regions : In(Regions), watchdog : Out(32), irq : Out(1)
        What the host set. `irq` is a level: enabled and pending.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "axil": In(Axi4Lite()),
                "start": Out(1),
                "reset": Out(1),
                "status": In(Status),
                "report": In(ErrorReport),
                "notify": In(1),
                "clear": In(1),
                "counting": In(1),
                "counts": In(Counts),
                "regions": In(Regions(config)),
                "watchdog": Out(32),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._serve_reads(m, self._values(m))
        address, word, strobe, write = self._accept_writes(m)
        self._apply_writes(m, address, word, strobe, write)
        return m

    def _values(self, m: Module) -> dict[int, object]:
        """What a read of each offset returns; counts the counters."""
        values = {
            _offset("id"): Const(registers.MAGIC, 32),
            _offset("version"): Const(registers.VERSION, 32),
            _offset("fingerprint_lo"): Const(self.config.fingerprint & 0xFFFF_FFFF, 32),
            _offset("fingerprint_hi"): Const(self.config.fingerprint >> 32, 32),
            _offset("control"): Const(0, 32),
            _offset("status"): self.status.as_value(),
            _offset("error"): Cat(self.report.code, self.report.unit, self.report.detail),
            _offset("error_instruction"): self.report.index,
            _offset("watchdog"): self.watchdog,
        }
        for i, (name, _) in enumerate(registers.COUNTERS):
            counter = Signal(64, name=f"counter_{name}")
            with m.If(self.clear):
                m.d.sync += counter.eq(0)
            with m.Elif(self.counting):
                m.d.sync += counter.eq(counter + self.counts[name])
            offset = registers.counter_offset(i)
            values |= {offset: counter[:32], offset + 4: counter[32:]}
        for offset, (target, shift) in self._region_words().items():
            values[offset] = target[shift : shift + 32]
        self.enable, self.pending = Signal(name="irq_enable"), Signal(name="irq_pending")
        values[_offset("irq")] = Cat(self.enable, self.pending)
        m.d.comb += self.irq.eq(self.enable & self.pending)
        return values

    def _region_words(self) -> dict[int, tuple[Signal, int]]:
        """Offset of each region register -> the signal it is part of, and from which bit on."""
        words = {}
        for r in range(registers.REGIONS):
            for part, shift in (("base_lo", 0), ("base_hi", 32), ("limit_lo", 0), ("limit_hi", 32)):
                words[registers.region_offset(r, part)] = (self.regions.table[r][part[:-3]], shift)
        return words

    def _serve_reads(self, m: Module, values: dict[int, object]):
        axil = self.axil
        m.d.comb += axil.arready.eq(~axil.rvalid)
        with m.If(axil.rvalid & axil.rready):
            m.d.sync += axil.rvalid.eq(0)
        with m.If(axil.arvalid & axil.arready):
            m.d.sync += [axil.rvalid.eq(1), axil.rdata.eq(0), axil.rresp.eq(Response.SLVERR)]
            with m.Switch(axil.araddr[2:]):
                for offset, value in values.items():
                    with m.Case(offset >> 2):
                        m.d.sync += [axil.rdata.eq(value), axil.rresp.eq(Response.OKAY)]

    def _accept_writes(self, m: Module):
        """Address and data may come in any order. Returns address, data, strobes, and a pulse to write them."""
        axil = self.axil
        address, has_address = Signal(registers.ADDRESS_BITS), Signal()
        word, strobe, has_word = Signal(32), Signal(4), Signal()
        write = Signal()
        m.d.comb += [
            axil.awready.eq(~has_address),
            axil.wready.eq(~has_word),
            write.eq(has_address & has_word & ~axil.bvalid),
        ]
        with m.If(axil.awvalid & axil.awready):
            m.d.sync += [address.eq(axil.awaddr), has_address.eq(1)]
        with m.If(axil.wvalid & axil.wready):
            m.d.sync += [word.eq(axil.wdata), strobe.eq(axil.wstrb), has_word.eq(1)]
        with m.If(axil.bvalid & axil.bready):
            m.d.sync += axil.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [has_address.eq(0), has_word.eq(0), axil.bvalid.eq(1), axil.bresp.eq(Response.SLVERR)]
        return address, word, strobe, write

    def _apply_writes(self, m: Module, address: Signal, word: Signal, strobe: Signal, write: Signal):
        okay = self.axil.bresp.eq(Response.OKAY)
        mask = Cat(bit.replicate(8) for bit in strobe)
        with m.If(write):
            with m.Switch(address[2:]):
                with m.Case(_offset("control") >> 2):
                    self._control(m, word & mask)
                with m.Case(_offset("irq") >> 2):
                    m.d.sync += okay
                    with m.If(strobe[0]):
                        m.d.sync += self.enable.eq(word[0])
                        with m.If(word[1]):
                            m.d.sync += self.pending.eq(0)
                with m.Case(_offset("watchdog") >> 2):
                    m.d.sync += [okay, self.watchdog.eq(_merged(self.watchdog, word, mask))]
                for offset, (target, shift) in self._region_words().items():
                    with m.Case(offset >> 2):
                        part = target[shift : shift + 32]
                        with m.If(~self.status.busy):
                            m.d.sync += [okay, part.eq(_merged(part, word, mask))]
        with m.If(self.notify):
            m.d.sync += self.pending.eq(1)

    def _control(self, m: Module, word):
        """Reset wins over a start in the same write."""
        refused = self.status.busy | self.status.error
        start, reset = (word & registers.CONTROL_START).any(), (word & registers.CONTROL_RESET).any()
        m.d.comb += [self.reset.eq(reset), self.start.eq(start & ~reset & ~refused)]
        with m.If(reset | ~start | ~refused):
            m.d.sync += self.axil.bresp.eq(Response.OKAY)


def _merged(old, new, mask):
    return (old & ~mask) | (new & mask)


def _offset(name: str) -> int:
    return next(register.offset for register in registers.REGISTERS if register.name == name)
