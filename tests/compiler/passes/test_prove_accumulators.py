"""The proof that accumulators fit int32: against brute force on small layers, and at its very limit."""

from dataclasses import replace

import numpy as np
import pytest

from systolith.compiler.ir.graph import Conv, Graph, Port, Value
from systolith.compiler.passes.dead_layers import remove_dead_layers
from systolith.compiler.passes.prove_accumulators import prove_accumulators
from systolith.compiler.pipeline import compile_graph
from systolith.config import PRESETS
from systolith.errors import SystolithError
from systolith.sim.golden import golden
from systolith.sim.host.memory_image import build
from systolith.sim.isa.simulator import simulate
from tests.support.seeds import seeds

LIMIT = 2**31 - 1


def graph(weights, bias, zero_point) -> Graph:
    weights = np.asarray(weights, np.int8).reshape(1, -1, 1, 1)
    layer = Conv("net", "Conv", "x", "y", weights, np.array([bias], np.int32), np.ones(1, np.float32))
    x = Value("x", (1, weights.shape[1], 1, 1), 1.0, zero_point)
    return Graph("net", {"x": x, "y": Value("y", (1, 1, 1, 1), 1.0, 0)}, (layer,), (), ())


def fits(weights, bias, zero_point) -> bool:
    try:
        prove_accumulators(graph(weights, bias, zero_point))
    except SystolithError as error:
        assert str(error).startswith("Conv 'net': sums must fit int32 for every input; they can reach ")
        return False
    return True


@seeds(100)
def test_equals_brute_force(seed):
    """Weights near the limit in number, by a bias that is chosen around it."""
    rng = np.random.default_rng(seed)
    weights, zero_point = rng.integers(-128, 128, 6), int(rng.integers(-128, 128))
    highest = sum(max(int(w) * (x - zero_point) for x in (-128, 127)) for w in weights)
    lowest = sum(min(int(w) * (x - zero_point) for x in (-128, 127)) for w in weights)
    folded = -zero_point * int(weights.sum())
    largest = min(LIMIT - highest, LIMIT - folded, LIMIT)
    smallest = max(-LIMIT - lowest, -LIMIT - folded, -LIMIT)
    for bias, expected in [(largest, True), (smallest, True), (largest + 1, False), (smallest - 1, False)]:
        if -LIMIT - 1 <= bias <= LIMIT:
            assert fits(weights, bias, zero_point) == expected


def test_raw_sums_count():
    """Sums of inputs without the zero point: 2^17 products of -128 and -128 reach 2^31."""
    assert fits(np.full(2**17 - 1, -128), 0, 0)
    assert not fits(np.full(2**17, -128), 0, 0)


@pytest.mark.parametrize(("weights", "bias", "zero_point"), [
    ([100], LIMIT - 12700, 0), ([-100], -LIMIT + 12700, 0), ([127] * 66300, 0, -128),
    ([127, 3, -128], LIMIT - 33150, -128),
])  # fmt: skip
def test_whatever_fits_is_right(weights, bias, zero_point):
    """Sums and folded bias may both be near the limit, of one sign or two: only what they come to must fit."""
    config = PRESETS["tiny4"]
    net = graph(weights, bias, zero_point)
    layer = replace(net.layers[0], scale=np.full(1, 2.0**-24, np.float32))
    ports = [(Port(name, net.values[name].dims, "int8", name, (0, 1, 2, 3), "int8"),) for name in ("x", "y")]
    net = prove_accumulators(replace(net, layers=(layer,), inputs=ports[0], outputs=ports[1]))
    program = compile_graph(net, config)
    for x in (np.where(layer.weights > 0, 127, -128), np.where(layer.weights > 0, -128, 127)):
        inputs = {"x": x.astype(np.int8)}
        memory = build(program, inputs)
        simulate(program.code, config, memory)
        found = memory.output(program.outputs[0], config.array)
        assert (found == golden.run_values(net, inputs)["y"]).all()


def test_dead_layers_go():
    net = graph([1], 0, 0)
    assert remove_dead_layers(net).layers == ()
    assert remove_dead_layers(net).values == {}
