"""Weight SRAM against a dictionary: random reads and masked writes, every cycle checked."""

import cocotb

from systolith.config import Config
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.sram_model import single_ports

NAME = "weight_sram"


def component(config: Config):
    from systolith.hw.memory.weights import WeightSram

    return WeightSram(config)


@cocotb.test()
async def random_traffic(dut):
    bench = Environment(dut)
    await bench.reset()
    config = bench.config
    readers = ("read", "depthwise_read") if config.dw_taps else ("read",)
    await single_ports(bench, config.weight_depth, config.array, chunks=1, cycles=4000, readers=readers)
    seen = [f"{reader} returned a known word" for reader in readers] + ["read refused"] * (config.dw_taps > 0)
    bench.finish(require=("partial mask", "read and write in one cycle", *seen))
