"""The whole accelerator through resets of both kinds amid a program: the next program's result is right.

The memory is not reset with the accelerator. Where the path to it is, it forgets all bursts; else beats and responses
of bursts that were cut come later, even when the next program runs. Some come that nobody asked for.
"""

import itertools

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge
from cocotbext.axi.axi_channels import AxiBTransaction, AxiRTransaction

from systolith.config import Config
from systolith.sim.rtl import driver
from systolith.sim.rtl.driver import OFFSETS
from systolith.sim.testbench import accelerator_bench
from systolith.sim.testbench.accelerator_bench import Case, Monitor, ready
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.host import Host

NAME = "reset"
ROUNDS = 50
DEPTH = 8
"""Read bursts that the path takes ahead."""
LAYOUT = 1
"""Seed of where regions lie: always the same, so that late writes of a program land where those of the next one do."""


def component(config: Config):
    return accelerator_bench.component(config)


class Resets:
    """Cuts programs, and runs the next one."""

    def __init__(self, bench: Environment, host: Host, monitor: Monitor):
        self.bench, self.host, self.monitor = bench, host, monitor
        ram = host.ram
        self.answers = ram.read_if.r_channel, ram.write_if.b_channel
        ram.read_if.ar_channel.queue_occupancy_limit = DEPTH

    async def begin(self) -> None:
        """Start a program, and let it run for a while."""
        bench, host = self.bench, self.host
        case = Case(bench.config, bench.numpy)
        host.window.image = image = case.image(LAYOUT)
        host.stall(bench.rng.choice((0, 0.3, 0.7)))
        for offset, value in driver.setup_writes(image, 0):
            await host.write(offset, value)
        await host.write(*driver.START)
        await bench.cycles(bench.rng.randrange(bench.rng.choice((100, 1500))))

    async def hold(self) -> None:
        """From now on beats, or responses, wait until the next program is set up, or runs. Returns when some do."""
        reads = self.bench.rng.randrange(2)
        self.answers[1 - reads].set_pause_generator(itertools.repeat(True))
        for _ in range(2000):
            await self.bench.cycles(1)
            if self.monitor.reads if reads else self.monitor.bursts:
                break
        await self.bench.cycles(self.bench.rng.randrange(60))
        cocotb.start_soon(self._release(self.bench.rng.randrange(1000)))

    async def _release(self, cycles: int) -> None:
        await self.bench.cycles(cycles)
        for channel in self.answers:
            channel.set_pause_generator(itertools.repeat(False))

    async def soft(self) -> None:
        """The accelerator itself waits until nothing is under way."""
        await self.host.reset()
        self.monitor.check_quiet()
        assert await self.host.read(OFFSETS["status"]) == 0

    async def hard(self, whole_path: bool) -> None:
        """`aresetn`, at a moment when the path is owed no write data, or together with the path."""
        bench, monitor, dut = self.bench, self.monitor, self.bench.dut
        await FallingEdge(dut.aclk)
        while not whole_path and (monitor.data_owed() or int(dut.m_axi_awvalid.value) or int(dut.m_axi_wvalid.value)):
            await FallingEdge(dut.aclk)
        bench.cover("reads cut", bool(monitor.reads))
        bench.cover("writes cut", bool(monitor.lengths))
        dut.aresetn.value = 0
        await bench.cycles(bench.rng.randint(1, 20))
        if whole_path:
            self.host.ram.read_if.assert_reset()
            self.host.ram.write_if.assert_reset()
        monitor.forget()
        await bench.cycles(1)
        dut.aresetn.value = 1
        await bench.cycles(1)

    async def unasked(self) -> None:
        """A beat and a response that answer nothing, with the ID of the bursts."""
        reads, responses = self.answers
        dut, last = self.bench.dut, self.bench.rng.randrange(2)
        await reads.send(AxiRTransaction(rid=int(dut.m_axi_arid.value), rdata=0, rresp=0, rlast=last))
        await responses.send(AxiBTransaction(bid=int(dut.m_axi_awid.value), bresp=0))
        while not all(channel.empty() and channel.idle() for channel in self.answers):
            await self.bench.cycles(1)

    async def run(self) -> None:
        """Another program of the same size with other data, from start to end."""
        case = Case(self.bench.config, self.bench.numpy)
        image = case.image(LAYOUT)
        before = image.copy()
        await self.host.run(image, case.code)
        assert np.array_equal(image.output(case.program.outputs[0], self.bench.config.array), case.y)
        assert image.stray_writes(before) == []
        self.monitor.check_quiet()
        assert all(channel.empty() for channel in self.answers), "all answers to bursts that were cut have come"


@cocotb.test()
async def resets(dut):
    bench, host, monitor, _ = await ready(dut)
    device = Resets(bench, host, monitor)
    for _ in range(ROUNDS):
        await device.begin()
        kind = bench.rng.choice(("soft", "path", "alone", "alone", "alone"))
        bench.cover(kind)
        late = kind != "soft" and bench.rng.random() < 0.6
        if kind == "soft":
            await device.soft()
        else:
            host.stall(bench.rng.choice((0, 0.3)))
            if late:
                await device.hold()
            await device.hard(kind == "path")
        if not late:
            await device.unasked()
        await device.run()
    bench.finish(require=("soft", "path", "reads cut", "writes cut", "stray beat", "stray beat amid others",
                          "stray response"))  # fmt: skip
