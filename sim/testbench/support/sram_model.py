"""Model of the SRAM controllers for their testbenches: what is known of each byte, and what a reader must see when."""

import random
from collections import deque

from systolith.sim.testbench.support.environment import Environment

__all__ = ["ReadPort", "SramModel", "WritePort", "random_word", "single_ports"]

LATENCY = 2


def random_word(rng: random.Random, size: int) -> int:
    return rng.getrandbits(8 * size)


def spread(mask: int) -> int:
    """Bits of the bytes in a byte mask."""
    return int.from_bytes(bytes(255 * (mask >> i & 1) for i in range(mask.bit_length())), "little")


class SramModel:
    """Words by address, as (value, bits of it that are known)."""

    def __init__(self):
        self.words: dict[int, tuple[int, int]] = {}

    def read(self, address: int) -> tuple[int, int]:
        return self.words.get(address, (0, 0))

    def write(self, address: int, value: int, bits: int) -> None:
        old, known = self.read(address)
        self.words[address] = (old & ~bits | value & bits, known | bits)


class Port:
    """Drives a port with random requests at random moments, mostly kept up until they are taken."""

    def __init__(self, bench: Environment, name: str, addresses: list[int]):
        self.bench, self.rng, self.name, self.addresses = bench, bench.rng, name, addresses
        self.handles = {
            key: getattr(bench.dut, f"{name}__{key}", None) for key in ("valid", "ready", "address", "data", "mask")
        }
        self.rate, self.request, self.address = 0.5, False, 0
        self.handles["valid"].value = 0

    def set(self, name: str, value: int) -> None:
        self.handles[name].value = value

    def get(self, name: str) -> int:
        return int(self.handles[name].value)

    def drive(self, taken: bool) -> None:
        """After a clock edge: the next request, or the same one if it was refused."""
        if taken or not self.request or self.rng.random() < 0.1:
            self.request = self.rng.random() < self.rate
            self.address = self.rng.choice(self.addresses)
            self.choose()
            self.set("valid", self.request)
            self.set("address", self.address)

    def choose(self) -> None:
        """What comes with the address."""


class WritePort(Port):
    """Random data under random byte masks."""

    def __init__(self, bench: Environment, name: str, addresses: list[int], size: int):
        self.size, self.value, self.mask = size, 0, 0
        super().__init__(bench, name, addresses)

    def choose(self) -> None:
        everything = (1 << self.size) - 1
        self.value = random_word(self.rng, self.size)
        self.mask = self.rng.choice((everything, everything, self.rng.getrandbits(self.size), 0))
        self.bench.cover("partial mask", self.request and 0 < self.mask < everything)
        self.set("data", self.value)
        self.set("mask", self.mask)

    @property
    def bits(self) -> int:
        return spread(self.mask)


class ReadPort(Port):
    """Random reads; each must return LATENCY cycles after it was taken, and stay until the next one returns."""

    def __init__(self, bench: Environment, name: str, addresses: list[int]):
        super().__init__(bench, name, addresses)
        self.coming: deque[tuple[int, int] | None] = deque([None] * LATENCY)
        self.shown = (0, 0)

    def check(self, taken: bool, word: tuple[int, int]) -> None:
        """At the end of a cycle: compare what is shown; `word` is what a request taken in this cycle must return."""
        self.coming.append(word if taken else None)
        arrived = self.coming.popleft()
        if arrived is not None:
            self.shown = arrived
            self.bench.cover(f"{self.name} returned a known word", arrived[1])
        value, known = self.shown
        if known:
            found = self.get("data")
            assert found & known == value & known, f"{self.name}: read {found:x}, not {value:x} where {known:x}"


async def single_ports(
    bench: Environment, depth: int, size: int, chunks: int, cycles: int, readers: tuple[str, ...] = ("read",)
) -> None:
    """A memory of `depth` words of `chunks` chunks of `size` bytes: one port writes chunks, and each cycle one of
    `readers` reads a word, the first one that wants to."""
    model, bits = SramModel(), 8 * size
    words = sorted({0, 1, depth - 2, depth - 1, *(bench.rng.randrange(depth) for _ in range(8))})
    ports = [ReadPort(bench, name, words) for name in readers]
    writer = WritePort(bench, "write", [chunks * word + i for word in words for i in range(chunks)], size)
    taken = dict.fromkeys(readers, True)
    for cycle in range(cycles):
        if cycle % 250 == 0:
            for port in (*ports, writer):
                port.rate = bench.rng.choice((0.1, 0.5, 1))
        for port in ports:
            port.drive(taken[port.name])
        writer.drive(taken=True)
        await bench.cycles(1)
        assert writer.get("ready")
        free = True
        for port in ports:
            assert port.get("ready") == free, f"{port.name}: ready must be {free}"
            taken[port.name] = free and port.request
            bench.cover("read refused", port.request and not free)
            free = free and not port.request
            collides = writer.request and writer.address // chunks == port.address
            bench.cover("read and write in one cycle", taken[port.name] and writer.request and not collides)
            port.check(taken[port.name], (0, 0) if collides else model.read(port.address))
        if writer.request:
            word, chunk = divmod(writer.address, chunks)
            model.write(word, writer.value << chunk * bits, writer.bits << chunk * bits)
