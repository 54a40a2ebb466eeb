"""How the memory of the DMA testbenches, cocotbext-axi's AxiRam, stalls at random and refuses accesses."""

import random
from collections.abc import Iterator

from cocotbext.axi import AxiRam

__all__ = ["MEMORY_BYTES", "accept", "refuse", "stall"]

MEMORY_BYTES = 1 << 20


def stall(ram: AxiRam, rng: random.Random) -> None:
    """Each channel pauses at random, some of them for long, each with its own frequency."""

    def pauses(frequency: float) -> Iterator[bool]:
        while True:
            for _ in range(rng.choice((1, 1, 2, 30))):
                yield rng.random() < frequency

    for channel in (ram.read_if.ar_channel, ram.read_if.r_channel, ram.write_if.aw_channel, ram.write_if.w_channel,
                    ram.write_if.b_channel):  # fmt: skip
        channel.set_pause_generator(pauses(rng.choice((0, 0.2, 0.5))))


def refuse(ram: AxiRam, address: int) -> None:
    """From now on the memory answers accesses to the beat that holds `address` with an error."""
    width = ram.read_if.byte_lanes

    async def check(at: int) -> None:
        if at // width == address // width:
            raise ValueError("refused")

    async def read(at: int, length: int) -> bytes:
        await check(at)
        return bytes(ram.read(at % MEMORY_BYTES, length))

    async def write(at: int, data: bytes) -> None:
        await check(at)
        ram.write(at % MEMORY_BYTES, data)

    ram.read_if._read, ram.write_if._write = read, write


def accept(ram: AxiRam) -> None:
    """Undo `refuse`."""
    del ram.read_if._read, ram.write_if._write
