"""The cocotb testbenches of the hardware: each on the configurations that make a difference to it.

`systolith verify` runs them on any other configuration, with any other seed.
"""

from dataclasses import replace
from types import ModuleType

import pytest

from systolith.config import PRESETS, Config
from systolith.sim import verify
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.testbench import (
    accelerator_bench,
    accumulators_bench,
    act_sram_bench,
    array_bench,
    axi_master_bench,
    control_bench,
    depthwise_bench,
    execute_bench,
    load_activations_bench,
    load_weights_bench,
    param_sram_bench,
    pe_bench,
    registers_bench,
    requantize_bench,
    reset_bench,
    sfu_add_bench,
    sfu_bench,
    sfu_reduce_bench,
    sfu_table_bench,
    store_bench,
    tokens_bench,
    weight_sram_bench,
)

TINY = PRESETS["tiny4"]
TWELVE = replace(TINY, name="twelve", array=12, sfu_lanes=4, act_banks=3, act_depth=3 * 64, weight_depth=12 * 40)
"""No size is a power of two; partial sums of an odd width."""
SRAM = replace(TWELVE, weight_depth=72, param_depth=5)
SFU = replace(SRAM, acc_depth=16, dw_taps=3, dw_depth=32)
DMA = replace(TINY, name="twelve", array=12, sfu_lanes=4, axi_addr_bits=36, axi_outstanding=16, axi_buffer=256)
"""Words longer than a beat, and not a multiple of it; an address wider than 32 bits."""
DEPTHWISE = replace(TINY, dw_depth=64)
LANES = replace(DEPTHWISE, name="twelve_lanes", dw_taps=9, array=12, act_banks=3, act_depth=3 * 128, weight_depth=300)
WIDE = replace(TINY, dw_taps=1, axi_data_bits=256, axi_burst=1, token_bits=2, queue_depth=2)
SMALL = replace(TINY, array=12, act_depth=96, act_banks=3, weight_depth=33, sfu_lanes=3, axi_data_bits=256,
                axi_outstanding=1, axi_burst=2, axi_buffer=4, queue_depth=2, dw_taps=3, dw_depth=32)  # fmt: skip

BENCHES: list[tuple[ModuleType, int, dict[str, Config]]] = [
    # array
    (pe_bench, 5, {"tiny4": TINY, "12x12": TWELVE}),
    (array_bench, 6, {"tiny4": TINY, "12x12": TWELVE}),
    (accumulators_bench, 7, {"tiny4": TINY, "12x12": TWELVE}),
    # execute
    (execute_bench, 8, {"tiny4": TINY, "12x12": TWELVE}),
    # sfu: one to three channel groups a word, with and without a depthwise unit
    (sfu_bench, 4, {
        "tiny4": TINY, "12x12": SFU,
        "all lanes": replace(TINY, name="all_lanes", array=8, sfu_lanes=8, dw_taps=1, dw_depth=16),
    }),
    (requantize_bench, 2, {"tiny4": TINY}),
    (sfu_add_bench, 3, {"tiny4": TINY}),
    (sfu_reduce_bench, 5, {"tiny4": TINY}),
    (sfu_table_bench, 6, {"tiny4": TINY}),
    # depthwise
    (depthwise_bench, 4, {
        "1 tap": replace(DEPTHWISE, name="one_tap", dw_taps=1),
        "3 taps": replace(DEPTHWISE, name="three_taps", dw_taps=3),
        "9 taps": replace(DEPTHWISE, name="nine_taps", dw_taps=9),
        "9 taps, 12 lanes": LANES,
    }),
    # dma
    (load_activations_bench, 1, {"tiny4": TINY, "12x12": DMA}),
    (load_weights_bench, 1, {"tiny4": TINY, "12x12": DMA}),
    (store_bench, 1, {"tiny4": TINY, "12x12": DMA}),
    (axi_master_bench, 1, {"tiny4": TINY, "12x12": DMA}),
    # memory: banks in a number that is a power of two, and in others
    (act_sram_bench, 3, {
        "tiny4": TINY, "12x12": SRAM,
        "1 bank": replace(TINY, name="one_bank", act_banks=1, act_depth=64),
        "5 banks": replace(TINY, name="five_banks", act_banks=5, act_depth=5 * 32, dw_taps=1),
    }),
    (weight_sram_bench, 3, {
        "tiny4": TINY, "12x12": SRAM, "depthwise": replace(SRAM, name="depthwise", dw_taps=1),
    }),
    (param_sram_bench, 3, {"tiny4": TINY, "12x12": SRAM}),
    # control: beats of 64, 128 and 256 bits; counters of 4 and of 2 bits, and a sixth unit; bits of an address
    (control_bench, 1, {"64 bits": TINY, "128 bits": PRESETS["edge16"], "256 bits, depthwise": WIDE}),
    (tokens_bench, 1, {
        "4 bits": TINY, "2 bits": replace(TINY, token_bits=2), "depthwise": replace(TINY, dw_taps=1),
    }),
    (registers_bench, 32, {"32 bits": replace(TINY, axi_addr_bits=32)}),
    (registers_bench, 40, {"40 bits": replace(TINY, axi_addr_bits=40)}),
    (registers_bench, 64, {"64 bits": replace(TINY, axi_addr_bits=64)}),
    # the whole accelerator: tiny4, and wide beats, few lanes, small memories and a depthwise unit
    (accelerator_bench, 1, {"tiny4": TINY, "12x12": SMALL}),
    (reset_bench, 1, {"tiny4": TINY, "12x12": SMALL}),
]  # fmt: skip
"""Testbench, seed, configurations."""


@pytest.mark.rtl
@pytest.mark.parametrize(("bench", "seed", "config"), [
    pytest.param(bench, seed, config, id=f"{bench.NAME}-{name}")
    for bench, seed, configs in BENCHES for name, config in configs.items()])  # fmt: skip
def test_bench(bench: ModuleType, seed: int, config: Config):
    result = run_bench(bench.component(config), bench.__name__, config, seed)
    assert result.passed, result.log


def test_every_bench_is_run():
    """That of whole programs is in `tests/sim/test_backends.py`."""
    assert {bench.NAME for bench, _, _ in BENCHES} | {"program"} == verify.names().keys()
