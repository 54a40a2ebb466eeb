"""The standard memory of all figures: one beat a cycle each way, a fixed latency, any number of bursts in flight."""

from collections import deque
from collections.abc import Iterable

import cocotb
from cocotb.triggers import RisingEdge

from systolith.config import Config
from systolith.sim.testbench.support.dma import Dma
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.unreliable_ram import MEMORY_BYTES

__all__ = ["LatencyMemory", "hidden_latency", "least_cycles", "timed_dma"]


class LatencyMemory:
    """AXI4 memory on ports `axi__*`: first read beat, and write response, `latency` cycles after what they answer."""

    def __init__(self, bench: Environment, size: int, latency: int):
        self.bench, self.latency, self.bytes = bench, latency, bytearray(size)

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.bytes[address : address + length])

    def write(self, address: int, data: bytes) -> None:
        self.bytes[address : address + len(data)] = data

    async def run(self) -> None:
        """Every cycle, forever."""
        dut, width, cycle = self.bench.dut, self.bench.config.axi_bytes, 0
        reads: deque[tuple[int, int, bool]] = deque()
        writes: deque[int] = deque()
        answers: deque[int] = deque()
        port = {
            name: getattr(dut, f"axi__{name}")
            for name in ("arvalid", "araddr", "arlen", "rvalid", "rdata", "rlast", "awvalid", "awaddr", "awlen",
                         "wvalid", "wdata", "wstrb", "wlast", "bvalid")
        }  # fmt: skip
        for name, value in (("arready", 1), ("awready", 1), ("wready", 1), ("rresp", 0), ("bresp", 0)):
            getattr(dut, f"axi__{name}").value = value
        port["rvalid"].value = port["bvalid"].value = 0
        while True:
            await RisingEdge(self.bench.clock)
            cycle += 1
            if port["arvalid"].value:
                address, beats = int(port["araddr"].value), int(port["arlen"].value) + 1
                reads.extend((cycle + self.latency, address + k * width, k == beats - 1) for k in range(beats))
            if port["awvalid"].value:
                address, beats = int(port["awaddr"].value), int(port["awlen"].value) + 1
                writes.extend(address + k * width for k in range(beats))
            if port["wvalid"].value:
                self._write(writes.popleft(), int(port["wdata"].value), int(port["wstrb"].value))
                if port["wlast"].value:
                    answers.append(cycle + self.latency)
            arrived = bool(reads) and reads[0][0] <= cycle
            port["rvalid"].value = int(arrived)
            if arrived:
                _, address, last = reads.popleft()
                port["rdata"].value = int.from_bytes(self.read(address, width), "little")
                port["rlast"].value = int(last)
            answered = bool(answers) and answers[0] <= cycle
            port["bvalid"].value = int(answered)
            if answered:
                answers.popleft()

    def _write(self, address: int, data: int, strobe: int) -> None:
        for k in range(self.bench.config.axi_bytes):
            if strobe >> k & 1:
                self.bytes[address + k] = data >> 8 * k & 0xFF


def hidden_latency(config: Config) -> int:
    """The latency, 64 at most, that the buffers and the bursts in flight of this configuration can hide."""
    in_flight = min(config.axi_buffer, config.axi_outstanding * config.axi_burst)
    return max(1, min(64, in_flight - config.axi_burst - 16))


def least_cycles(config: Config, latency: int, spans: Iterable[tuple[int, int]], steps: int) -> int:
    """What accesses to these (address, bytes), each at least `steps` cycles of work inside the unit, must take.

    One beat a cycle, and `axi_outstanding` bursts in the time that one takes from its address to its last answer.
    """
    total = bursts = 0
    for address, count in spans:
        first, last = address // config.axi_bytes, (address + count - 1) // config.axi_bytes
        total += max(last - first + 1, steps)
        bursts += last // config.axi_burst - first // config.axi_burst + 1
    return max(total, (bursts * (latency + 3) + total) // config.axi_outstanding)


async def timed_dma(bench: Environment, latency: int) -> Dma:
    """Units and memory that never stall, at work."""
    memory = LatencyMemory(bench, MEMORY_BYTES, latency)
    dma = Dma(bench, idle=0, busy=0, memory=memory)
    cocotb.start_soon(memory.run())
    await dma.start()
    return dma
