"""The processing element against integers: random activations, weights, sums and marks, corners among them."""

import cocotb
from cocotb.triggers import RisingEdge

from systolith.config import Config
from systolith.sim.testbench.support.environment import Environment

NAME = "pe"
CYCLES = 3000


def component(config: Config):
    """What to verilate."""
    from systolith.hw.array.pe import ProcessingElement

    return ProcessingElement(config.psum_bits)


def signed(value: int, bits: int) -> int:
    """The low bits of an integer as two's complement."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


class PeModel:
    """What a PE holds; `step` is one cycle, and returns the three outputs of the next."""

    def __init__(self, psum_bits: int):
        self.psum_bits = psum_bits
        self.shadow = self.active = self.activation = self.product = 0

    def step(self, latch: int, swap: int, weight: int, activation: int, psum: int) -> tuple[int, int, int]:
        total = signed(psum + self.product, self.psum_bits)
        self.product = self.activation * self.active
        if swap:
            self.active = self.shadow
        if latch:
            self.shadow = weight
        self.activation = activation
        return activation, weight, total


@cocotb.test()
async def random_marks(dut):
    bench = Environment(dut)
    rng, psum_bits = bench.rng, bench.config.psum_bits
    limit = 1 << psum_bits - 1
    inputs = dict.fromkeys(("latch", "swap", "weight", "activation", "psum"), 0)
    for name in inputs:
        getattr(dut, name).value = 0
    await bench.reset()
    model, expected = PeModel(psum_bits), None
    for cycle in range(CYCLES):
        weight, activation = (rng.choice([-128, -1, 0, 127, rng.randint(-128, 127)]) for _ in range(2))
        inputs = {
            "latch": rng.random() < 0.2,
            "swap": rng.random() < 0.2,
            "weight": weight,
            "activation": activation,
            "psum": rng.choice([-limit, limit - 1, rng.randrange(-limit, limit)]),
        }
        for name, bits in (("latch", 1), ("swap", 1), ("weight", 8), ("activation", 8), ("psum", psum_bits)):
            getattr(dut, name).value = int(inputs[name]) & (1 << bits) - 1
        await RisingEdge(dut.clk)
        # The first cycles show what was in the registers before.
        if expected is not None and cycle > 20:
            found = tuple(
                getattr(dut, name).value.to_signed() for name in ("activation_right", "weight_below", "psum_below")
            )
            assert found == expected, f"cycle {cycle}: expected {expected}, found {found}"
        if model.activation == model.active == -128:
            bench.cover("-128 * -128")
        expected = model.step(**inputs)
        for mark in ("latch", "swap"):
            bench.cover(mark, inputs[mark])
        bench.cover("latch and swap together", inputs["latch"] and inputs["swap"])
    bench.finish(require=("latch", "swap", "latch and swap together", "-128 * -128"))
