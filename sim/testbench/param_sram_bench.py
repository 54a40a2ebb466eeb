"""Parameter SRAM against a dictionary: random reads of words and masked writes of chunks, every cycle checked."""

import cocotb

from systolith.config import Config
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.sram_model import single_ports

NAME = "param_sram"


def component(config: Config):
    from systolith.hw.memory.parameters import ParameterSram

    return ParameterSram(config)


@cocotb.test()
async def random_traffic(dut):
    bench = Environment(dut)
    await bench.reset()
    await single_ports(bench, bench.config.param_depth, bench.config.array, chunks=8, cycles=4000)
    bench.finish(require=("read returned a known word", "partial mask", "read and write in one cycle"))
