"""The register file against a dict of words: every register, byte strobes, refusals, counters, interrupt, pauses."""

import logging

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from systolith import registers
from systolith.config import Config
from systolith.registers import region_offset
from systolith.sim.testbench.support.environment import Environment

NAME = "registers"
OFFSET = {register.name: register.offset for register in registers.REGISTERS}
PARTS = ("base_lo", "base_hi", "limit_lo", "limit_hi")
BUSY, DONE, ERROR = registers.STATUS_BUSY, registers.STATUS_DONE, registers.STATUS_ERROR


def component(config: Config):
    from systolith.hw.control.registers import Registers

    return Registers(config)


def pauses(rng, share: float):
    while True:
        yield rng.random() < share


class Host:
    """An AXI4-Lite master, and what the registers should hold."""

    def __init__(self, bench: Environment):
        self.bench, dut = bench, bench.dut
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "axil_"), dut.clk, dut.rst)
        write, read = self.master.write_if, self.master.read_if
        for interface in (write, read):
            interface.log.setLevel(logging.WARNING)
        for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
            channel.set_pause_generator(pauses(bench.rng, 0.3))
        self.writable = {OFFSET["irq"]: 1, OFFSET["watchdog"]: 0xFFFF_FFFF}
        high = (1 << bench.config.axi_addr_bits - 32) - 1
        for region in range(registers.REGIONS):
            for part, mask in zip(PARTS, (0xFFFF_FFFF, high, 0xFFFF_FFFF, 1), strict=True):
                self.writable[region_offset(region, part)] = mask
        self.words = dict.fromkeys(self.writable, 0)
        self.words |= {
            OFFSET["id"]: registers.MAGIC,
            OFFSET["version"]: registers.VERSION,
            OFFSET["fingerprint_lo"]: bench.config.fingerprint & 0xFFFF_FFFF,
            OFFSET["fingerprint_hi"]: bench.config.fingerprint >> 32,
            OFFSET["control"]: 0,
        }

    async def read(self, offset: int, okay: bool = True) -> int:
        answer = await self.master.read(offset, 4)
        assert answer.resp == (AxiResp.OKAY if okay else AxiResp.SLVERR), hex(offset)
        return int.from_bytes(answer.data, "little")

    async def write(self, offset: int, data: bytes, okay: bool = True) -> None:
        answer = await self.master.write(offset, data)
        assert answer.resp == (AxiResp.OKAY if okay else AxiResp.SLVERR), hex(offset)

    async def write_word(self, offset: int, word: int, okay: bool = True) -> None:
        await self.write(offset, word.to_bytes(4, "little"), okay)

    async def check(self, offset: int) -> None:
        found, expected = await self.read(offset), self.words[offset]
        assert found == expected, f"{offset:#x}: {found:#x}, not {expected:#x}"


async def begin(dut) -> tuple[Environment, Host]:
    bench = Environment(dut)
    for port in ("status", "report", "notify", "clear", "counting", "counts"):
        getattr(dut, port).value = 0
    host = Host(bench)
    await bench.reset()
    return bench, host


async def pulses(dut, signal, seen: list):
    while True:
        await FallingEdge(dut.clk)
        if int(signal.value):
            seen.append(1)


@cocotb.test()
async def words(dut):
    """Random reads and writes of everything that has or has not a register."""
    bench, host = await begin(dut)
    rng = bench.rng
    readable, known = list(host.words), {register.offset for register in registers.REGISTERS}
    read_only = [register.offset for register in registers.REGISTERS if register.access == "ro"]
    nowhere = [offset for offset in range(0, 1 << registers.ADDRESS_BITS, 4) if offset not in known]
    for _ in range(600):
        kind = rng.choice(("read", "write", "write", "bytes", "busy", "read only", "nowhere"))
        bench.cover(kind)
        offset, word = rng.choice(list(host.writable)), rng.getrandbits(32)
        if kind == "read":
            await host.check(rng.choice(readable))
        elif kind == "write":
            await host.write_word(offset, word)
            host.words[offset] = word & host.writable[offset]
        elif kind == "bytes":
            first, count = rng.choice(((0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (2, 2), (1, 2), (0, 3), (1, 3)))
            data = word.to_bytes(4, "little")[:count]
            await host.write(offset + first, data)
            mask = (1 << 8 * count) - 1 << 8 * first & host.writable[offset]
            new = int.from_bytes(data, "little") << 8 * first
            host.words[offset] = host.words[offset] & ~mask | new & mask
        elif kind == "busy":
            dut.status.value = BUSY
            region = offset >= region_offset(0, "base_lo")
            await host.write_word(offset, word, okay=not region)
            if not region:
                host.words[offset] = word & host.writable[offset]
            dut.status.value = 0
        elif kind == "read only":
            await host.write_word(rng.choice(read_only), word, okay=False)
        else:
            await host.write_word(rng.choice(nowhere), word, okay=False)
            assert await host.read(rng.choice(nowhere), okay=False) == 0
    for offset in host.words:
        await host.check(offset)
    check_outputs(bench, host)
    bench.finish(require=("read", "write", "bytes", "busy", "read only", "nowhere"))


def check_outputs(bench: Environment, host: Host) -> None:
    """What the core sees of the regions and the watchdog."""
    bits = bench.config.axi_addr_bits
    assert int(bench.dut.watchdog.value) == host.words[OFFSET["watchdog"]]
    table = int(bench.dut.regions__table.value)
    for region in range(registers.REGIONS):
        low, high, limit, limit_high = (host.words[region_offset(region, part)] for part in PARTS)
        entry = table >> region * (bits + 33)
        assert entry & (1 << bits) - 1 == high << 32 | low
        assert entry >> bits & (1 << 33) - 1 == limit_high << 32 | limit


@cocotb.test()
async def control(dut):
    """Start and reset make one pulse each, or none when refused."""
    bench, host = await begin(dut)
    starts, resets = [], []
    cocotb.start_soon(pulses(dut, dut.start, starts))
    cocotb.start_soon(pulses(dut, dut.reset, resets))
    for _ in range(100):
        status, bits = bench.rng.choice((0, BUSY, DONE, ERROR, BUSY | ERROR)), bench.rng.randrange(4)
        dut.status.value = status
        reset = bits & registers.CONTROL_RESET
        start = bits & registers.CONTROL_START and not reset
        refused = start and status & (BUSY | ERROR)
        await host.write_word(OFFSET["control"], bits, okay=not refused)
        await bench.cycles(2)
        assert (len(starts), len(resets)) == (bool(start and not refused), bool(reset)), (status, bits)
        assert await host.read(OFFSET["status"]) == status
        bench.cover("start refused", bool(refused))
        bench.cover("start", len(starts))
        bench.cover("reset", len(resets))
        starts.clear()
        resets.clear()
    # A strobe that leaves out byte 0 leaves out both bits.
    await host.write(OFFSET["control"] + 1, b"\xff\xff\xff")
    assert not starts and not resets
    bench.finish(require=("start refused", "start", "reset"))


@cocotb.test()
async def interrupt(dut):
    """irq is enabled and pending."""
    bench, host = await begin(dut)
    enabled = pending = 0
    for _ in range(100):
        if bench.rng.random() < 0.5:
            dut.notify.value = 1
            await RisingEdge(dut.clk)
            dut.notify.value = 0
            pending = 1
        else:
            enabled, clear = bench.rng.randrange(2), bench.rng.randrange(2)
            await host.write_word(OFFSET["irq"], enabled | clear << 1)
            bench.cover("cleared", bool(pending and clear))
            pending &= ~clear
        await bench.cycles(2)
        assert int(dut.irq.value) == (enabled & pending)
        assert await host.read(OFFSET["irq"]) == enabled | pending << 1
        bench.cover("raised", enabled & pending)
    bench.finish(require=("cleared", "raised"))


@cocotb.test()
async def counters(dut):
    """Counters go up while counting, by what they are told, and stay when it ends; clear clears them all."""
    bench, host = await begin(dut)
    widths = [3 if name == "bank_conflicts" else 1 for name, _ in registers.COUNTERS]
    expected = [0] * len(widths)
    for _ in range(4):
        dut.clear.value = 1
        dut.counting.value = 0
        await RisingEdge(dut.clk)
        dut.clear.value = 0
        expected = [0] * len(widths)
        for _ in range(300):
            counting, amounts = bench.rng.random() < 0.8, [bench.rng.getrandbits(width) for width in widths]
            dut.counting.value = counting
            dut.counts.value = pack(amounts, widths)
            if counting:
                expected = [total + amount for total, amount in zip(expected, amounts, strict=True)]
            await RisingEdge(dut.clk)
        dut.counting.value = 0
        for i, total in enumerate(expected):
            assert await host.read(registers.counter_offset(i)) == total, registers.COUNTERS[i]
            assert await host.read(registers.counter_offset(i) + 4) == 0
        bench.cover("counted")
    bench.finish(require=("counted",))


@cocotb.test()
async def report(dut):
    """The error's code, unit, detail and instruction."""
    bench, host = await begin(dut)
    for _ in range(20):
        code, unit, detail, index = (bench.rng.getrandbits(bits) for bits in (8, 8, 16, 24))
        dut.report.value = pack([code, unit, detail, index], [8, 8, 16, 24])
        assert await host.read(OFFSET["error"]) == code | unit << 8 | detail << 16
        assert await host.read(OFFSET["error_instruction"]) == index
        bench.cover("report")
    bench.finish(require=("report",))


def pack(values: list[int], widths: list[int]) -> int:
    return sum(value << sum(widths[:i]) for i, value in enumerate(values))
