"""The whole accelerator at its ports: a program written by hand against NumPy, AXI rules, refusals, resets in flight.

Compiled programs are program_bench's. This one needs no compiler, and watches the memory port through soft resets: a
request once made stays until it is taken, and each burst that began is completed.
"""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from systolith import registers
from systolith.config import Config
from systolith.isa import (
    Instruction,
    LoadTarget,
    Reduction,
    Region,
    SecondOperand,
    SfuSource,
    Unit,
    encode_program,
    make,
)
from systolith.numerics import requantize
from systolith.program import Program, Tensor
from systolith.sim.host.memory_image import Image, build
from systolith.sim.rtl import driver
from systolith.sim.rtl.driver import OFFSETS
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.host import Host

NAME = "accelerator"
ROUNDS = 4
"""How often the program does the same, so that there is something to interrupt."""
CHANNELS = {
    "aw": ("addr", "len", "size", "burst", "id", "lock", "cache", "prot"),
    "w": ("data", "strb", "last"),
    "ar": ("addr", "len", "size", "burst", "id", "lock", "cache", "prot"),
}


def component(config: Config):
    from systolith.hw.top import Accelerator

    return Accelerator(config)


def mask(*units: Unit) -> int:
    return sum(1 << unit for unit in units)


class Case:
    """Two channel blocks in, one out, 1x1 kernel, on as many pixels as the smallest memory takes; then, where there is
    a depthwise unit, a 3x3 kernel."""

    def __init__(self, config: Config, rng: np.random.Generator):
        n, pixels = config.array, min(config.acc_half, config.dw_half, config.act_depth // 4, 32)
        self.config, self.size = config, (2, pixels // 2)
        rows, cols = self.size
        self.x = rng.integers(-128, 128, (1, 2 * n, rows, cols), np.int8)
        weights = rng.integers(-128, 128, (2 * n, n), np.int8)
        taps = rng.integers(-128, 128, (9, n), np.int8)
        bias = rng.integers(-5000, 5000, (2, n), np.int32)
        scale = rng.uniform(0.0005, 0.005, (2, n)).astype(np.float32)

        def requantized(acc: np.ndarray, word: int) -> np.ndarray:
            return requantize((acc + bias[word, :, None, None]).astype(np.int32), scale[word, :, None, None], 3)

        self.y = requantized(np.einsum("bchw,co->bohw", self.x.astype(np.int32), weights.astype(np.int32)), 1)
        if config.dw_taps:
            padded = np.pad(self.y.astype(np.int32), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=3)
            places = [padded[..., ky : ky + rows, kx : kx + cols] for ky in range(3) for kx in range(3)]
            self.y = requantized(np.einsum("kbchw,kc->bchw", places, taps.astype(np.int32)), 0)
        parameters = np.stack([bias.view(np.uint32), scale.view(np.uint32)], axis=2).tobytes()
        self.code = encode_program(self.instructions())
        self.program = Program(
            config.fingerprint, n, self.code, parameters + weights.tobytes() + taps.tobytes(),
            (_tensor("x", Region.INPUT, self.x.shape),), (_tensor("y", Region.OUTPUT, self.y.shape),),
        )  # fmt: skip

    def instructions(self) -> list[Instruction]:
        n, (rows, cols) = self.config.array, self.size
        pixels = rows * cols
        one = {"stride_y": 1, "stride_x": 1, "dilation_y": 1, "dilation_x": 1}
        constants = [
            make("CONFIG.LOAD_A.source", row_pitch=cols * n, height=2 * rows, row_step=1, row_bytes=cols * n),
            make("CONFIG.LOAD_A.window", step=n, length=n, lane=0, zero_point=0, row_stride=cols),
            make("CONFIG.EXECUTE.input", height=rows, width=cols, row_stride=cols, block_stride=pixels, zero_point=0),
            make("CONFIG.EXECUTE.kernel", kernel_y=1, kernel_x=1, blocks=2, **one),
            make("CONFIG.SFU.output", zero_point=3, clamp_min=-128, clamp_max=127, row_stride=cols, col_stride=1,
                 lookup=0),
            make("CONFIG.SFU.input", height=rows, width=cols, row_stride=cols, y0=0, x0=0, pad=0),
            make("CONFIG.SFU.window", kernel_y=1, kernel_x=1, **one),
            make("CONFIG.STORE.target", row_pitch=cols * n, row_stride=cols),
        ]  # fmt: skip
        sfu = {"memory": SfuSource.ACCUMULATORS, "reduce": Reduction.MAXIMUM, "second": SecondOperand.NONE,
               "drain": 0, "source": 0, "operand": 0, "dst": 2 * pixels,
               "rows": rows, "cols": cols, "param": 1}  # fmt: skip
        load = [
            make("LOAD.W", region=Region.WEIGHTS, offset=0, sram=0, words=16, target=LoadTarget.PARAMETERS,
                 signal=mask(Unit.SFU)),
            make("LOAD.W", region=Region.WEIGHTS, offset=16 * n, sram=0, words=2 * n, target=LoadTarget.WEIGHTS,
                 signal=mask(Unit.EXECUTE)),
            make("LOAD.A", region=Region.INPUT, offset=0, sram=0, rows=2 * rows, cols=cols, x0=0, y0=0,
                 signal=mask(Unit.EXECUTE)),
            make("EXECUTE", act=0, weight=0, y0=0, x0=0, rows=rows, cols=cols, acc=0, accumulate=0,
                 wait=mask(Unit.LOAD_W, Unit.LOAD_A), signal=mask(Unit.SFU)),
        ]  # fmt: skip
        if self.config.dw_taps:
            constants += [
                make("CONFIG.DEPTHWISE.input", height=rows, width=cols, row_stride=cols, zero_point=3),
                make("CONFIG.DEPTHWISE.kernel", kernel_y=3, kernel_x=3, **one),
            ]
            half = self.config.dw_half
            work = [
                make("LOAD.W", region=Region.WEIGHTS, offset=(16 + 2 * n) * n, sram=2 * n, words=9,
                     target=LoadTarget.WEIGHTS, signal=mask(Unit.DEPTHWISE)),
                make("SFU", **sfu, wait=mask(Unit.LOAD_W, Unit.EXECUTE), signal=mask(Unit.DEPTHWISE)),
                make("DEPTHWISE", act=2 * pixels, weight=2 * n, y0=-1, x0=-1, rows=rows, cols=cols, acc=half,
                     wait=mask(Unit.LOAD_W, Unit.SFU), signal=mask(Unit.SFU)),
                make("SFU", **{**sfu, "memory": SfuSource.DEPTHWISE, "source": half, "dst": 3 * pixels, "param": 0},
                     wait=mask(Unit.DEPTHWISE), signal=mask(Unit.STORE)),
            ]  # fmt: skip
        else:
            work = [make("SFU", **sfu, wait=mask(Unit.LOAD_W, Unit.EXECUTE), signal=mask(Unit.STORE))]
        result = 3 * pixels if self.config.dw_taps else 2 * pixels
        store = [
            make("STORE", region=Region.OUTPUT, offset=0, sram=result, rows=rows, cols=cols, wait=mask(Unit.SFU)),
            make("FENCE"),
        ]
        return [*constants, *[*load, *work, *store] * ROUNDS, make("END")]

    def image(self, seed: int) -> Image:
        return build(self.program, {"x": self.x}, seed)


def _tensor(name: str, region: Region, dims: tuple[int, ...]) -> Tensor:
    return Tensor(name, dims, "int8", region, 0, dims, (0, 1, 2, 3))


class Monitor:
    """What AXI4 asks of a master, looked at in every cycle."""

    def __init__(self, bench: Environment):
        self.bench = bench
        self.forget()
        cocotb.start_soon(self._watch())

    def forget(self) -> None:
        """In a reset: no burst is under way."""
        self.waiting = dict.fromkeys(CHANNELS)
        self.reads, self.beats = 0, 0
        self.lengths, self.bursts = [], []

    def data_owed(self) -> bool:
        """An address was taken without all of its data, or data without its address."""
        return sum(self.lengths) != self.beats + sum(self.bursts)

    def _signal(self, name: str) -> int:
        return int(getattr(self.bench.dut, f"m_axi_{name}").value)

    async def _watch(self) -> None:
        while True:
            await RisingEdge(self.bench.dut.aclk)
            if int(self.bench.dut.aresetn.value):
                self._step()

    def _step(self) -> None:
        taken = {}
        for channel, members in CHANNELS.items():
            valid, ready = self._signal(f"{channel}valid"), self._signal(f"{channel}ready")
            payload = tuple(self._signal(channel + member) for member in members) if valid else None
            before = self.waiting[channel]
            assert before is None or payload == before, f"{channel} changed before it was taken"
            self.waiting[channel] = payload if valid and not ready else None
            self.bench.cover(f"{channel} waits", bool(valid and not ready))
            if valid and ready:
                taken[channel] = payload
        for channel in ("aw", "ar"):
            if channel in taken:
                address, length, size = taken[channel][:3]
                assert size == self.bench.config.axi_bytes.bit_length() - 1 and length < self.bench.config.axi_burst
                assert address % 4096 + (length + 1 << size) <= 4096, "a burst crosses 4 KiB"
        self._count(taken)

    def _count(self, taken: dict[str, tuple[int, ...]]) -> None:
        if "ar" in taken:
            self.reads += 1
        if self._signal("rvalid") and self._signal("rready"):
            owned = self.reads > 0 and self._signal("rid") == self._signal("arid")
            self.reads -= owned and self._signal("rlast")
            self.bench.cover("stray beat", not owned)
            self.bench.cover("stray beat amid others", not owned and self.reads > 0)
        if "aw" in taken:
            self.lengths.append(taken["aw"][1] + 1)
        if "w" in taken:
            self.beats += 1
            if taken["w"][2]:
                self.bursts.append(self.beats)
                self.beats = 0
        # Data may be taken before its address.
        for length, beats in zip(self.lengths, self.bursts, strict=False):
            assert length == beats, "WLAST must mark the last beat"
        if self._signal("bvalid") and self._signal("bready"):
            owned = bool(self.bursts) and self._signal("bid") == self._signal("awid")
            del self.lengths[:owned], self.bursts[:owned]
            self.bench.cover("stray response", not owned)
        assert 0 <= self.reads <= self.bench.config.axi_outstanding

    def check_quiet(self) -> None:
        """After done, and after a reset, nothing is under way."""
        assert not (self.reads or self.beats or self.lengths or self.bursts or any(self.waiting.values()))


async def ready(dut) -> tuple[Environment, Host, Monitor, Case]:
    """All of a testbench, after power-up."""
    bench = Environment(dut, "aclk", "aresetn", 0)
    host, monitor = Host(bench), Monitor(bench)
    await bench.reset(8)
    return bench, host, monitor, Case(bench.config, bench.numpy)


async def good_run(bench: Environment, host: Host, monitor: Monitor, case: Case) -> None:
    """The program's output is NumPy's, nothing else changed, and the counters say what was done."""
    image = case.image(bench.rng.randrange(1 << 30))
    before = image.copy()
    host.stall(bench.rng.choice((0, 0.2, 0.6)))
    measured = await host.run(image, case.code)
    assert np.array_equal(image.output(case.program.outputs[0], bench.config.array), case.y), f"seed {bench.seed}"
    assert image.stray_writes(before) == []
    monitor.check_quiet()
    rows, cols = case.size
    assert measured.counters["array_rows"] == ROUNDS * 2 * rows * cols
    words = {0: 0, 1: 9 * rows * cols, 3: 3 * rows * (cols + 2), 9: (rows + 2) * (cols + 2)}[bench.config.dw_taps]
    assert measured.counters["dw_busy"] == ROUNDS * words
    assert sum(measured.counters[f"array_{why}"] for why in ("rows", "wait_weights", "wait_tokens", "idle")) in (
        measured.cycles, measured.cycles - 1, measured.cycles + 1)  # fmt: skip
    bench.cover("good run")


@cocotb.test()
async def runs(dut):
    """One run after the other; a start while busy, and regions written while busy, are refused and do no harm."""
    bench, host, monitor, case = await ready(dut)
    for _ in range(4):
        await good_run(bench, host, monitor, case)
        bench.cover("again")
    image = case.image(1)
    host.window.image = image
    for offset, value in driver.setup_writes(image, 0):
        await host.write(offset, value)
    await host.write(*driver.START)
    for offset, value in ((OFFSETS["control"], registers.CONTROL_START), (registers.region_offset(0, "base_lo"), 0)):
        answer = await host.registers.write(offset, value.to_bytes(4, "little"))
        assert answer.resp == 2, "must be refused"
        assert await host.read(OFFSETS["status"]) == registers.STATUS_BUSY
        bench.cover("refused")
    while await host.read(OFFSETS["status"]) == registers.STATUS_BUSY:
        pass
    assert np.array_equal(image.output(case.program.outputs[0], bench.config.array), case.y)
    bench.finish(require=("good run", "again", "refused", "ar waits", "aw waits", "w waits"))


@cocotb.test()
async def resets(dut):
    """A soft reset at any moment: bursts in flight end, then all is quiet, and the next program runs as ever."""
    bench, host, monitor, case = await ready(dut)
    for _ in range(12):
        image = case.image(bench.rng.randrange(1 << 30))
        host.window.image = image
        host.stall(bench.rng.choice((0, 0.3, 0.7)))
        for offset, value in driver.setup_writes(image, 0):
            await host.write(offset, value)
        await host.write(*driver.START)
        await bench.cycles(bench.rng.randrange(1500))
        bench.cover("reads in flight", bool(monitor.reads))
        bench.cover("writes in flight", bool(monitor.lengths or monitor.beats))
        await host.reset()
        monitor.check_quiet()
        assert await host.read(OFFSETS["status"]) == 0
        await good_run(bench, host, monitor, case)
    bench.finish(require=("good run", "reads in flight"))
