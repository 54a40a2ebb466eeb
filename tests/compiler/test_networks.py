"""Networks of all kinds of layers: the program computes what the golden model does, in every order its tokens allow."""

import time
from dataclasses import replace

import pytest

from systolith.compiler.order.timeline import estimate
from systolith.compiler.pipeline import Compiled, compile_levels
from systolith.errors import SystolithError
from systolith.isa import Region, Unit
from tests.support import topologies
from tests.support.against_golden import ALL, DEPTHWISE, agrees
from tests.support.graph_builder import Network, random_network
from tests.support.hand_graphs import CONFIGS
from tests.support.seeds import each_seed, many, seeds


def names_of(compiled: Compiled) -> list[str]:
    return [instruction.form.name for instruction in compiled.instructions]


def sfu_of(compiled: Compiled):
    return [instruction for instruction in compiled.instructions if instruction.form.name == "SFU"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@seeds(16, first=100, each=8)
def test_random_networks(name, seed):
    agrees(random_network(seed), ALL[name], seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny4", "tiny4_dw3"])
def test_random_networks_too_large_for_the_chip(name):
    spilled = 0
    for seed in each_seed(range(200, 200 + many(6))):
        compiled = agrees(random_network(seed, depth=8, channels=40, size=22), ALL[name], seed)
        spilled += compiled.program.scratch_bytes > 0
    assert spilled >= 3


LAYERS = {
    "max": lambda net, x, _: net.pool(x, "max", kernel=(3, 3), stride=(2, 1), pads=(1, 1, 1, 1)),
    "max dilated": lambda net, x, _: net.pool(x, "max", kernel=(2, 2), dilation=(2, 3), pads=(2, 0, 0, 3)),
    "average": lambda net, x, _: net.pool(x, "average", kernel=(3, 2), pads=(2, 1, 1, 1)),
    "global average": lambda net, x, size: net.pool(x, "average", kernel=size),
    "table": lambda net, x, _: net.table(x),
    "two tables": lambda net, x, _: net.table(net.pool(net.table(x), "max", kernel=(2, 2))),
    "add": lambda net, x, _: net.add(x, net.table(x)),
    "add to itself": lambda net, x, _: net.add(x, x, table=True),
    "add two inputs": lambda net, x, _: net.add(x, net.input(net.values[x].dims)),
    "multiply": lambda net, x, size: net.multiply(x, net.pool(x, "average", kernel=size)),
    "multiply by itself": lambda net, x, _: net.multiply(x, x),
    "crop": lambda net, x, _: net.crop(x, (-1, 2, 0, -2)),
    "pad": lambda net, x, _: net.crop(x, (3, 0, 1, 2)),
    "residual": lambda net, x, _: net.add(net.conv(x, net.channels(x), pads=(1, 1, 1, 1)), x),
    "pool of a convolution": lambda net, x, _: net.pool(net.conv(x, 9), "max", kernel=(2, 2), stride=(2, 2)),
    "pool with gaps": lambda net, x, _: net.pool(net.conv(x, 9), "max", kernel=(1, 2), stride=(3, 2)),
    "depthwise": lambda net, x, _: net.depthwise(x, pads=(1, 1, 1, 1)),
    "depthwise, stride": lambda net, x, _: net.depthwise(x, kernel=(5, 4), stride=(2, 3), pads=(2, 1, 1, 3)),
    "depthwise, dilation": lambda net, x, _: net.depthwise(x, kernel=(2, 3), dilation=(3, 2)),
    "depthwise, pool": lambda net, x, _: net.pool(net.depthwise(x), "max", kernel=(2, 2), stride=(2, 2)),
    "depthwise, add": lambda net, x, _: net.add(net.depthwise(x, pads=(1, 1, 1, 1)), x),
    "excitation": lambda net, x, size: net.multiply(
        x, net.table(net.conv(net.pool(x, "average", kernel=size), net.channels(x), (1, 1)))
    ),
}


@pytest.mark.parametrize("name", ["tiny4", "odd12", "tiny4_dw3"])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(name, kind):
    """Each kind of layer on an input that fits the chip, on one that does not, and on two images."""
    for dims in ((1, 5, 8, 9), (1, 9, 24, 17), (2, 14, 7, 6)):
        net = Network(dims)
        agrees(net.graph(LAYERS[kind](net, net.x, dims[2:])), ALL[name])


@pytest.mark.parametrize("name", ["tiny4", "odd12"])
@pytest.mark.parametrize("dims", [(5, 7, 2, 1), (5, 7, 1, 2), (9, 6, 1, 1), (1, 6, 1, 40), (1, 40, 1, 1), (3, 5, 1, 9)])
def test_thin_tensors(name, dims):
    """Batches and lines of pixels are folded into rows, operands with them."""
    net = Network(dims)
    x = net.x
    y = net.add(net.conv(x, dims[1], (1, 1)), x)
    small = net.pool(y, "average", kernel=dims[2:])
    agrees(net.graph(net.multiply(net.add(y, x, table=True), small), net.multiply(small, small)), CONFIGS[name])


def test_the_sfu_drains_only_where_it_must():
    """Maps in a chain read what the one before wrote; convolutions between them wait by tokens."""
    net = Network((1, 4, 4, 4))
    compiled = agrees(
        net.graph(net.pool(net.pool(net.x, "max", kernel=(2, 2)), "max", kernel=(2, 2))), CONFIGS["tiny4"]
    )
    assert sum(i["drain"] for i in sfu_of(compiled)) == 1
    net = Network((1, 4, 4, 4))
    compiled = agrees(net.graph(net.conv(net.conv(net.x, 4, (1, 1)), 4, (1, 1))), CONFIGS["tiny4"])
    assert not any(i["drain"] for i in sfu_of(compiled))


def test_tables_are_written_once():
    """The table of a layer stays while other layers do not look up; of a new one only what differs is written."""
    net = Network((1, 4, 4, 4))
    first = net.table(net.conv(net.x, 4))
    second = net.table(net.conv(net.conv(first, 4, (1, 1)), 4, (1, 1)))
    table = net.layers[1].table.copy()
    table[17] ^= 1
    net.layers[4] = replace(net.layers[4], table=table)
    compiled = agrees(net.graph(second), CONFIGS["tiny4"])
    assert names_of(compiled).count("CONFIG.SFU.table") == 32 + 1


def test_parameter_words_of_maps_are_shared():
    """A padded average needs a word for each count of positions, and no more."""
    net = Network((1, 12, 9, 9))
    net.layers.clear()
    graph = net.graph(net.pool(net.x, "average", kernel=(3, 3), pads=(1, 1, 1, 1)))
    compiled = agrees(graph, CONFIGS["tiny4"])
    assert sum(i.form.name == "LOAD.W" for i in compiled.instructions) == 3


def test_fused_layers_cost_no_pass_of_their_own():
    """Addition, pool and table happen on the way from the accumulators."""
    net = Network((1, 8, 6, 6))
    x = net.conv(net.x, 8, pads=(1, 1, 1, 1))
    x = net.table(net.add(net.conv(x, 8, pads=(1, 1, 1, 1)), x))
    x = net.pool(net.conv(x, 8, pads=(1, 1, 1, 1)), "max", kernel=(2, 2), stride=(2, 2))
    compiled = agrees(net.graph(x), CONFIGS["tiny4"])
    assert len(compiled.planned) == 3
    assert all(i["memory"] == 0 for i in sfu_of(compiled))


def test_depthwise_convolutions_run_where_they_are_faster():
    net = Network((1, 16, 12, 12))
    graph = net.graph(net.conv(net.depthwise(net.x, pads=(1, 1, 1, 1)), 8, (1, 1)))
    compiled = agrees(graph, DEPTHWISE["tiny4_dw9"])
    assert "DEPTHWISE" in names_of(compiled)
    assert {int(i.unit) for i in sfu_of(compiled)} == {Unit.SFU} and {i["memory"] for i in sfu_of(compiled)} == {0, 2}
    assert "DEPTHWISE" not in names_of(agrees(graph, CONFIGS["tiny4"]))


def test_a_window_that_no_sram_holds_is_refused():
    net = Network((1, 4, 40, 40))
    with pytest.raises(SystolithError, match=r"Layer 'average0' must have room for one pixel .* not 512 words"):
        compile_levels(net.graph(net.pool(net.x, "average", kernel=(40, 40))), CONFIGS["tiny4"])
    net = Network((1, 4, 300, 1))
    with pytest.raises(SystolithError, match=r"Layer 'max0' must have a window of up to 255 x 255, not \(300, 1\)"):
        compile_levels(net.graph(net.pool(net.x, "max", kernel=(300, 1))), CONFIGS["edge16"])


@pytest.mark.slow
@pytest.mark.parametrize("name", topologies.TINY)
@pytest.mark.parametrize("config", ["edge16", "edge16_dw"])
def test_tiny_networks_stay_on_the_chip(name, config):
    """Memory sees weights, the input and the output; compiling takes seconds."""
    graph = topologies.TINY[name]()
    start = time.process_time()
    compiled = compile_levels(graph, CONFIGS[config])
    assert time.process_time() - start < 5
    assert compiled.program.scratch_bytes == 0
    used = {Region(i["region"]) for i in compiled.instructions if i.form.name in ("LOAD.A", "STORE")}
    assert used == {Region.INPUT, Region.OUTPUT}
    cycles = estimate(compiled.instructions, CONFIGS[config]).cycles
    print(f"{name} on {config}: {cycles} cycles estimated")


def test_strides_of_single_pixels_load_no_others():
    """A 1x1 convolution with strides, on an input in memory, loads only what it reads."""
    net = Network((2, 40, 21, 18))
    compiled = agrees(net.graph(net.conv(net.x, 4, (1, 1), stride=(2, 3))), CONFIGS["tiny4"])
    loads = [i for i in compiled.instructions if i.form.name == "LOAD.A"]
    assert sum(i["rows"] * i["cols"] for i in loads) == 2 * 10 * 11 * 6
    net = Network((1, 4, 30, 30))
    agrees(net.graph(net.pool(net.x, "max", kernel=(1, 1), stride=(3, 2))), CONFIGS["tiny4"])


@pytest.mark.slow
def test_resnet50_compiles_in_a_minute_and_keeps_the_array_busy():
    """Within 60 s; by the timeline model the array multiplies 97 % of the time."""
    graph, config = topologies.resnet50(), CONFIGS["edge16"]
    start = time.process_time()
    compiled = compile_levels(graph, config)
    elapsed = time.process_time() - start
    assert elapsed < 60
    cycles = estimate(compiled.instructions, config).cycles
    busy = sum(layer.macs(compiled.graph) for layer in compiled.graph.layers) / config.array**2 / cycles
    print(f"ResNet-50 on edge16: {cycles} cycles estimated, {busy:.1%}, compiled in {elapsed:.1f} s")
    assert busy > 0.97
