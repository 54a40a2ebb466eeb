"""Weight SRAM against a dictionary: random reads and masked writes, every cycle checked."""

import cocotb

from systolith.config import Config
from systolith.sim.testbench.environment import Environment
from systolith.sim.testbench.sram_model import single_ports

NAME = "weight_sram"


def component(config: Config):
    from systolith.hw.weight_sram import WeightSram

    return WeightSram(config)


@cocotb.test()
async def random_traffic(dut):
    bench = Environment(dut)
    await bench.reset()
    await single_ports(bench, bench.config.weight_depth, bench.config.array, chunks=1, cycles=4000)
    bench.finish(require=("read returned a known word", "partial mask", "read and write in one cycle"))
