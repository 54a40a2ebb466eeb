"""Programs of graphs against the golden model, on machines that differ in all that a compiler must know."""

from dataclasses import replace

import numpy as np

from systolith.compiler.ir.graph import Graph
from systolith.compiler.pipeline import Compiled, compile_levels
from systolith.config import Config
from systolith.sim.golden import golden
from systolith.sim.host.memory_image import build
from systolith.sim.isa.simulator import simulate
from tests.support.hand_graphs import CONFIGS

DEPTHWISE = {
    f"{name}_dw{taps}": replace(CONFIGS[name], dw_taps=taps, dw_depth=64)
    for name, taps in (("tiny4", 1), ("tiny4", 3), ("tiny4", 9), ("odd12", 3))
}
ALL = {name: CONFIGS[name] for name in ("tiny4", "odd12", "ecp5_8")} | DEPTHWISE


def agrees(graph: Graph, config: Config, seed: int = 0) -> Compiled:
    """Compiles, runs with units in random order, and compares every output with the golden model."""
    rng = np.random.default_rng(seed)
    inputs = {port.name: rng.integers(-128, 128, port.shape).astype(np.int8) for port in graph.inputs}
    expected = golden.run_values(graph, inputs)
    compiled = compile_levels(graph, config)
    memory = build(compiled.program, inputs, seed)
    before = memory.copy()
    simulate(compiled.program.code, config, memory, seed)
    assert not memory.stray_writes(before)
    for tensor, port in zip(compiled.program.outputs, graph.outputs, strict=True):
        assert (memory.output(tensor, config.array) == expected[port.value]).all(), tensor.name
    return compiled
