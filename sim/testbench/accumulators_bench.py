"""The accumulators against a NumPy array: rows every cycle, the same again after 4, the SFU reading the other half."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from systolith.config import Config
from systolith.sim.testbench.support.environment import Environment

NAME = "accumulators"
PHASES = 12
ROWS = 120
REPEAT = 4
"""Cycles after which the same accumulator row may come again."""
WRITE_DELAY = 3
READ_DELAY = 2


def component(config: Config):
    """What to verilate."""
    from systolith.hw.array.accumulators import Accumulators

    return Accumulators(config)


def random_rows(bench: Environment, half: int, count: int):
    """Control for each cycle, or None: (address, accumulate, last)."""
    rng, depth = bench.rng, bench.config.acc_half
    recent: list[int | None] = []
    density = rng.choice([1.0, 0.9, 0.5])
    for _ in range(count):
        address = None
        if rng.random() < density:
            spread = rng.choice([5, depth])
            address = rng.choice([0, depth - 1, rng.randrange(min(spread, depth))])
            if address in recent[-(REPEAT - 1) :]:
                address = None
        bench.cover(
            "same row after 4 cycles", address is not None and len(recent) >= REPEAT and recent[-REPEAT] == address
        )
        bench.cover("bubble", address is None)
        recent.append(address)
        yield None if address is None else (address + half * depth, rng.random() < 0.7, rng.random() < 0.1)


@cocotb.test()
async def both_halves(dut):
    bench = Environment(dut)
    config, rng = bench.config, bench.rng
    size, depth, bits = config.array, config.acc_depth, config.psum_bits
    address_bits = depth.bit_length() - 1
    accumulators = np.zeros((depth, size), np.int64)
    dut.control.value = dut.sums.value = dut.read__valid.value = dut.read__address.value = 0
    await bench.reset()

    schedule: list = []
    for phase in range(PHASES):
        # Sums are written in the last column N - 1 + WRITE_DELAY cycles later; only then may the SFU read this half.
        rows = [(row, phase % 2) for row in random_rows(bench, phase % 2, ROWS)]
        schedule += rows + [(None, phase % 2)] * (size + WRITE_DELAY + 1)

    diagonal: dict[int, np.ndarray] = {}
    finished, reads = set(), {}
    for cycle, (row, half) in enumerate(schedule):
        if row is None:
            dut.control.value = rng.getrandbits(address_bits + 3) & ~1
        else:
            address, accumulate, last = row
            limit = 1 << bits - 1
            sums = rng.choice(
                [np.full(size, -limit), np.full(size, limit - 1), bench.numpy.integers(-limit, limit, size)]
            )
            dut.control.value = 1 | address << 1 | accumulate << address_bits + 1 | last << address_bits + 2
            diagonal[cycle] = sums
            accumulators[address] = accumulators[address] * accumulate + sums
            if last:
                finished.add(cycle + size - 1 + WRITE_DELAY + 1)
            for point, seen in (("overwrite", not accumulate), ("accumulate", accumulate), ("last", last)):
                bench.cover(point, seen)
        word = 0
        for column in range(size):
            value = diagonal.get(cycle - column)
            number = rng.getrandbits(bits) if value is None else int(value[column])
            word |= (number & (1 << bits) - 1) << bits * column
        dut.sums.value = word

        reading = rng.random() < 0.7
        address = (1 - half) * config.acc_half + rng.randrange(config.acc_half)
        dut.read__valid.value, dut.read__address.value = reading, address
        if reading:
            reads[cycle + READ_DELAY] = accumulators[address].copy(), address
            bench.cover(f"read of half {1 - half}")

        await RisingEdge(dut.clk)
        assert dut.finished.value == (cycle in finished), f"cycle {cycle}: finished must be {cycle in finished}"
        if cycle in reads:
            expected, address = reads[cycle]
            data = int(dut.read__data.value).to_bytes(4 * size, "little")
            found = np.frombuffer(data, np.int32)
            assert (found == expected).all(), f"cycle {cycle}, row {address}: expected {expected}, found {found}"
    bench.finish(
        require=(
            "overwrite",
            "accumulate",
            "last",
            "same row after 4 cycles",
            "bubble",
            "read of half 0",
            "read of half 1",
        )
    )
