"""One lane of the SFU's table against a list: written and read in random order, also in cycles side by side."""

from collections import deque

import cocotb
from cocotb.triggers import RisingEdge

from systolith.config import Config
from systolith.sim.testbench.support.environment import Environment

NAME = "sfu_table"
LATENCY, ENABLE_AFTER = 2, 1
"""Of systolith.hw.sfu.table, which would bring Amaranth into the simulator; a wrong one fails."""


def component(config: Config):
    from systolith.hw.sfu.table import Table

    return Table()


@cocotb.test()
async def random_access(dut):
    bench = Environment(dut)
    await bench.reset()
    rng, table = bench.rng, [0] * 256
    expected, enabled = deque([None] * LATENCY), [0] * ENABLE_AFTER
    for cycle in range(8000):
        fill = cycle < 32 or rng.random() < 0.1
        index, entries = cycle if cycle < 32 else rng.randrange(32), rng.getrandbits(64)
        value, enable = rng.getrandbits(8), rng.random() < 0.9
        dut.fill.value, dut.index.value, dut.entries.value = fill, index, entries
        dut.value.value, dut.enable.value = value, enabled.pop(0)
        enabled.append(enable)
        collides = cycle < 32 or (fill and enable and value // 8 == index)
        expected.append(None if collides else table[value] if enable else value)
        if fill:
            table[8 * index : 8 * index + 8] = entries.to_bytes(8, "little")
        await RisingEdge(dut.clk)
        wanted = expected.popleft()
        if wanted is not None:
            assert dut.output.value.to_unsigned() == wanted, f"cycle {cycle}"
            bench.cover("looked up" if enable else "passed")
    bench.finish(require=("looked up", "passed"))
