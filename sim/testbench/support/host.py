"""The accelerator's surroundings under cocotb: cocotbext-axi memory and register master, with random pauses.

A second memory model beside the native harness, by other people. It answers without latency; pauses make the stalls.
"""

import logging
from itertools import repeat

import numpy as np
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from systolith import registers
from systolith.sim.host.memory_image import Image
from systolith.sim.rtl import driver
from systolith.sim.rtl.driver import OFFSETS, Measurement
from systolith.sim.testbench.support.environment import Environment

__all__ = ["Host", "Window"]


class Window:
    """An image as the memory of an AxiRam: any address outside it, or from `error[0]` to before `error[1]`, raises,
    which cocotbext-axi answers with SLVERR."""

    def __init__(self):
        self.image: Image | None = None
        self.error = (0, 0)

    def __len__(self) -> int:
        return 1 << 62

    def _place(self, key: slice) -> slice:
        image, (low, high) = self.image, self.error
        if image is None or key.start < image.origin or key.stop > image.origin + image.data.size:
            raise ValueError(f"access outside the memory: 0x{key.start:x} to 0x{key.stop:x}")
        if key.start < high and key.stop > low:
            raise ValueError("access that was to fail")
        return slice(key.start - image.origin, key.stop - image.origin)

    def __getitem__(self, key: slice) -> bytes:
        return self.image.data[self._place(key)].tobytes()

    def __setitem__(self, key: slice, data: bytes) -> None:
        self.image.data[self._place(key)] = np.frombuffer(bytes(data), np.uint8)


class Host:
    """Runs programs on the device under test through its registers. `aresetn` does not reset the memory."""

    def __init__(self, bench: Environment):
        self.bench, self.window = bench, Window()
        dut = bench.dut
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.aclk, mem=self.window)
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, dut.aresetn,
                                       reset_active_level=False)  # fmt: skip
        for part in (self.ram.write_if, self.ram.read_if, self.registers.write_if, self.registers.read_if):
            part.log.setLevel(logging.CRITICAL)

    def stall(self, fraction: float) -> None:
        """From now on, each channel of both ports pauses in that fraction of cycles; 0 stops it."""
        memory, lite = (self.ram.write_if, self.ram.read_if), (self.registers.write_if, self.registers.read_if)
        for part in (*memory, *lite):
            for name in ("aw_channel", "w_channel", "b_channel", "ar_channel", "r_channel"):
                if channel := getattr(part, name, None):
                    channel.set_pause_generator(self._pauses(fraction) if fraction else repeat(False))

    def _pauses(self, fraction: float):
        while True:
            yield self.bench.rng.random() < fraction

    async def run(self, image: Image, code: bytes, watchdog: int = 20_000, timeout: int = 2_000_000) -> Measurement:
        """Run the program in `image`. Raises HardwareFault as the registers tell it."""
        self.window.image = image
        identity = [await self.read(OFFSETS[name]) for name in ("id", "fingerprint_lo", "fingerprint_hi")]
        driver.check_identity(self.bench.config, *identity)
        for offset, value in driver.setup_writes(image, watchdog):
            await self.write(offset, value)
        await self.write(*driver.START)
        if not int(self.bench.dut.irq.value):
            await with_timeout(RisingEdge(self.bench.dut.irq), 10 * timeout, "ns")
        status = await self.read(OFFSETS["status"])
        if status & registers.STATUS_ERROR:
            raise driver.fault(await self.read(OFFSETS["error"]), await self.read(OFFSETS["error_instruction"]), code)
        assert status == registers.STATUS_DONE, f"status must be done, not {status}"
        counters = driver.counters([await self.read(offset) for offset in driver.counter_reads()])
        return Measurement(counters["cycles"], counters, counters["cycles"], 0.0)

    async def reset(self) -> None:
        """Soft reset; returns when the accelerator is idle."""
        await self.write(OFFSETS["control"], registers.CONTROL_RESET)
        for _ in range(200):
            if not await self.read(OFFSETS["status"]) & registers.STATUS_BUSY:
                return
        raise AssertionError("the accelerator does not come out of its soft reset")

    async def read(self, offset: int) -> int:
        """Read a register."""
        return int.from_bytes((await self.registers.read(offset, 4)).data, "little")

    async def write(self, offset: int, value: int) -> None:
        """Write a register."""
        await self.registers.write(offset, value.to_bytes(4, "little"))
