"""Programs compute what the graph says, on every configuration, in every order their tokens allow; and fast enough."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from systolith.compiler.ir.graph import Graph
from systolith.compiler.order.timeline import estimate
from systolith.compiler.pipeline import compile_graph, compile_levels, compile_model
from systolith.errors import UnsupportedError
from systolith.isa import Region
from systolith.program import Layout, from_bytes, to_bytes
from systolith.sim import run as backends
from systolith.sim.compare.outputs import check
from systolith.sim.stimulus.layers import random_layer
from tests.support.hand_graphs import CONFIGS, conv_graph, execute, random_graph, reference, reference_values, run
from tests.support.seeds import each_seed, many, seeds

NAMES = ["tiny4", "ecp5_8", "odd12", "edge16"]


def conv(out, kernel=3, stride=1):
    return {"out": out, "kernel": (kernel, kernel), "stride": (stride, stride), "pads": (kernel // 2,) * 4}


def agrees(graph: Graph, config, seed=0):
    x = np.random.default_rng(seed).integers(-128, 128, graph.values[graph.inputs[0].value].dims).astype(np.int8)
    program = compile_graph(graph, config)
    assert (run(program, config, x, seed) == reference(graph, x)).all()
    return program


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@seeds(60, each=15)
def test_random_chains(name, seed):
    rng = np.random.default_rng(seed)
    agrees(random_graph(rng, depth=int(rng.integers(1, 4))), CONFIGS[name], seed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("dims", "layer"),
    [
        ((1, 3, 30, 30), {"out": 20, "kernel": (7, 7), "stride": (2, 2), "pads": (3, 3, 3, 3)}),
        ((2, 1, 9, 40), {"out": 5, "kernel": (5, 3), "dilation": (1, 2), "pads": (0, 4, 2, 1)}),
        ((1, 2, 17, 11), {"out": 9, "kernel": (2, 9), "stride": (3, 1), "dilation": (3, 1), "pads": (4, 0, 0, 5)}),
        ((1, 70, 12, 12), {"out": 70, "kernel": (3, 3), "pads": (1, 1, 1, 1)}),
        ((1, 300, 3, 3), {"out": 40, "kernel": (3, 3)}),
        ((1, 600, 1, 1), {"out": 50, "kernel": (1, 1)}),
        ((37, 90, 1, 1), {"out": 33, "kernel": (1, 1)}),
        ((3, 8, 2, 1), {"out": 33, "kernel": (1, 1)}),
        ((5, 20, 3, 4), {"out": 11, "kernel": (3, 4)}),
        ((1, 4, 1, 700), {"out": 4, "kernel": (1, 5), "pads": (0, 2, 0, 2)}),
        ((1, 4, 700, 1), {"out": 4, "kernel": (5, 1), "stride": (2, 1)}),
        ((1, 1, 1, 1), {"out": 1, "kernel": (3, 3), "pads": (3, 3, 3, 3)}),
        ((1, 2, 4, 4), {"out": 2, "kernel": (2, 2), "stride": (5, 5), "pads": (9, 9, 9, 9)}),
        ((1, 90, 13, 13), {"out": 5, "kernel": (5, 5), "pads": (2, 2, 2, 2)}),
        ((1, 40, 9, 9), {"out": 40, "kernel": (3, 3), "pads": (1, 1, 1, 1), "groups": 40}),
        ((2, 20, 8, 7), {"out": 60, "kernel": (3, 2), "stride": (2, 2), "pads": (1, 1, 1, 1), "groups": 20}),
        ((1, 3, 20, 20), {"out": 6, "kernel": (3, 3), "dilation": (2, 1), "groups": 3}),
        ((1, 36, 6, 6), {"out": 18, "kernel": (1, 3), "groups": 6}),
        ((1, 21, 11, 9), {"out": 14, "kernel": (2, 2), "stride": (1, 2), "groups": 7}),
        ((1, 64, 5, 5), {"out": 32, "kernel": (3, 3), "groups": 2}),
        ((3, 30, 5, 5), {"out": 20, "kernel": (5, 5), "groups": 10}),
        ((37, 60, 1, 1), {"out": 36, "kernel": (1, 1), "groups": 3}),
        ((5, 21, 3, 3), {"out": 35, "kernel": (3, 3), "groups": 7}),
        pytest.param(
            (2, 100, 30, 30),
            {"out": 100, "kernel": (3, 3), "pads": (1, 1, 1, 1), "groups": 100},
            marks=pytest.mark.slow,
        ),
        ((1, 240, 12, 12), {"out": 48, "kernel": (3, 3), "groups": 3}),
    ],
)
def test_shapes(name, dims, layer):
    agrees(conv_graph(np.random.default_rng(1), dims, [layer]), CONFIGS[name])


@pytest.mark.parametrize("name", NAMES)
def test_tensors_too_large_for_the_chip(name):
    """Between layers they go through scratch memory, tile by tile."""
    size = {"tiny4": 24, "ecp5_8": 70, "odd12": 40, "edge16": 100}[name]
    graph = conv_graph(np.random.default_rng(2), (1, 5, size, size), [conv(6), conv(7, 1), conv(5, 3, 2), conv(4)])
    program = agrees(graph, CONFIGS[name])
    assert program.scratch_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [8, 40])
def test_depthwise_separable_networks(name, size):
    """Between layers in activation SRAM, or in memory."""
    layers = [conv(12), {**conv(12), "groups": 12}, conv(30, 1), {**conv(30, 3, 2), "groups": 30}, conv(18, 1),
              {**conv(36), "groups": 9}]  # fmt: skip
    agrees(conv_graph(np.random.default_rng(3), (1, 3, size, size), layers), CONFIGS[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [5, 20])
def test_values_with_several_readers(name, size):
    """The input is read twice; a value is read twice and is an output as well."""
    rng = np.random.default_rng(size)
    graph = conv_graph(rng, (2, 3, size, size), [conv(9), conv(4), conv(6, 1)])
    first, second, third = graph.layers
    third = replace(third, input=first.output, weights=np.resize(third.weights, (6, 9, 1, 1)))
    fourth = replace(first, name="conv3", output="v3")
    values = {**graph.values, "v3": replace(graph.values["v0"], name="v3")}
    ports = [replace(graph.outputs[0], name=n, value=n, shape=values[n].dims) for n in ("v0", "v1", "v2", "v3")]
    graph = replace(graph, values=values, layers=(first, second, third, fourth), outputs=tuple(ports))
    x = rng.integers(-128, 128, values["x"].dims).astype(np.int8)
    program = compile_graph(graph, CONFIGS[name])
    memory = execute(program, CONFIGS[name], x, seed=1)
    expected = reference_values(graph, x)
    for tensor in program.outputs:
        assert (memory.output(tensor, program.array) == expected[tensor.name]).all(), tensor.name


def test_small_networks_stay_on_the_chip():
    """Memory sees weights, the input and the output, nothing between."""
    graph = conv_graph(np.random.default_rng(2), (1, 3, 16, 16), [conv(16), conv(32, 3, 2), conv(32), conv(10, 8, 1)])
    compiled = compile_levels(graph, CONFIGS["edge16"])
    assert compiled.program.scratch_bytes == 0
    regions = {Region(i["region"]) for i in compiled.instructions if i.form.name in ("LOAD.A", "STORE")}
    assert regions == {Region.INPUT, Region.OUTPUT}


def test_groups_load_and_multiply_only_what_they_touch():
    """Depthwise: every input block is loaded once, and multiplied by one output block."""
    graph = conv_graph(np.random.default_rng(4), (1, 64, 10, 10), [{**conv(64), "groups": 64}])
    compiled = compile_levels(graph, CONFIGS["edge16"])
    loads = [i for i in compiled.instructions if i.form.name == "LOAD.A"]
    assert sum(i["rows"] * i["cols"] for i in loads) == 4 * 10 * 10
    weights = [i["words"] for i in compiled.instructions if i.form.name == "LOAD.W" and not i["target"]]
    assert sum(weights) == 4 * 9 * 16
    assert compiled.program.meta["layers"][0]["macs"] == 64 * 9 * 10 * 10


def test_few_channels_are_gathered_from_pixels():
    graph = conv_graph(np.random.default_rng(3), (1, 3, 32, 32), [conv(16, 7, 2)])
    assert agrees(graph, CONFIGS["edge16"]).inputs[0].layout == Layout.PIXELS


@pytest.mark.parametrize("kind", ["qlinearconv", "qdq_conv", "qlinearmatmul", "qdq_gemm", "chain"])
def test_models_compile(kind):
    for seed in each_seed(range(many(4))):
        model, _ = random_layer(np.random.default_rng(seed), kind)
        program = compile_model(model, CONFIGS["tiny4"])
        assert from_bytes(to_bytes(program)) == program
        assert program.model == model
        layers = program.meta["layers"]
        assert [set(layer) >= {"name", "op", "macs", "first", "last"} for layer in layers] == [True] * len(layers)
        assert all(a["last"] < b["first"] for a, b in pairwise(layers))


@pytest.mark.parametrize("name", NAMES)
def test_models_compute_what_golden_and_onnxruntime_do(name):
    for seed in each_seed(range(many(12))):
        model, inputs = random_layer(np.random.default_rng(seed))
        program = compile_model(model, CONFIGS[name])
        outputs, _ = backends.run(program, inputs, CONFIGS[name], "isa", backends.Options(seed=seed))
        assert check(program, inputs, outputs).passed, seed


def test_sums_that_leave_int32_are_refused():
    graph = conv_graph(np.random.default_rng(0), (1, 4, 2, 2), [conv(4, 1)])
    graph.layers[0].bias[:] = 2**31 - 1
    with pytest.raises(UnsupportedError, match="Conv 'conv0': sums must fit int32 for every input"):
        compile_graph(graph, CONFIGS["tiny4"])


@pytest.mark.parametrize(
    ("dims", "layer", "least"),
    [
        ((1, 64, 56, 56), conv(64), 0.95),
        ((1, 256, 14, 14), conv(256, 1), 0.93),
        ((1, 512, 7, 7), conv(512), 0.93),
        ((1, 3, 224, 224), conv(64, 7, 2), 0.85),
    ],
)
def test_estimated_utilization_of_edge16(dims, layer, least, record_property):
    """Useful multiply-accumulates of all the array could do, from start to done, by the timeline model."""
    config = CONFIGS["edge16"]
    graph = conv_graph(np.random.default_rng(0), dims, [layer])
    cycles = estimate(compile_levels(graph, config).instructions, config).cycles
    ideal = graph.layers[0].macs(graph) / config.array**2
    record_property("utilization", ideal / cycles)
    print(f"{dims} {layer}: {cycles} cycles, {ideal / cycles:.1%} of {config.array}x{config.array}")
    assert ideal / cycles >= least
