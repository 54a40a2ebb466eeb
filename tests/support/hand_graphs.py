"""Graphs built by hand, random ones too, and what they compute, in plain NumPy."""

from dataclasses import replace

import numpy as np

from systolith.compiler.ir.graph import Conv, Graph, Port, Value
from systolith.compiler.ir.verify import verify
from systolith.config import PRESETS, Config
from systolith.numerics import requantize
from systolith.program import Program
from systolith.sim.host.memory_image import Image, build
from systolith.sim.isa.simulator import simulate

CONFIGS = {
    **PRESETS,
    "odd12": Config(
        "odd12",
        array=12,
        act_depth=1024,
        act_banks=4,
        weight_depth=500,
        acc_depth=128,
        param_depth=20,
        sfu_lanes=3,
        axi_data_bits=64,
        queue_depth=6,
        token_bits=3,
    ),
}


def conv_graph(rng: np.random.Generator, dims, layers) -> Graph:
    """A chain of convolutions; `layers` are dicts with out, kernel and optionally stride, dilation, pads,
    groups."""
    values = {"x": Value("x", dims, 1.0, int(rng.integers(-128, 128)))}
    made = []
    name = "x"
    for index, item in enumerate(layers):
        channels, (height, width) = values[name].dims[1], values[name].dims[2:]
        weights = rng.integers(-128, 128, (item["out"], channels // item.get("groups", 1), *item["kernel"])).astype(
            np.int8
        )
        spread = 74 * 74 * np.sqrt(weights[0].size)
        layer = Conv(
            f"conv{index}",
            "Conv",
            name,
            f"v{index}",
            weights,
            rng.integers(-1000, 1000, item["out"]).astype(np.int32),
            (rng.uniform(0.5, 2.0, item["out"]) * 60 / spread).astype(np.float32),
            item.get("stride", (1, 1)),
            item.get("dilation", (1, 1)),
            item.get("pads", (0, 0, 0, 0)),
            item.get("groups", 1),
            low=int(rng.integers(-128, -60)),
            high=int(rng.integers(60, 128)),
        )
        name = layer.output
        zero_point = int(rng.integers(-30, 30))
        values[name] = Value(name, (dims[0], item["out"], *layer.output_size(height, width)), 1.0, zero_point)
        made.append(replace(layer, zero_point=zero_point))
    return verify(Graph("test", values, tuple(made), (_port("x", values),), (_port(name, values),)))


def random_graph(rng: np.random.Generator, depth: int = 1, channels: int = 40, size: int = 14) -> Graph:
    """A chain of random convolutions."""
    while True:
        dims = (
            int(rng.choice([1, 1, 2, 5])),
            _few(rng, channels),
            int(rng.integers(1, size)),
            int(rng.integers(1, size)),
        )
        layers, height, width = [], *dims[2:]
        for _ in range(depth):
            kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
            if rng.random() < 0.2:
                kernel = (min(height, 7), min(width, 7))
            groups = _groups(rng, layers[-1]["out"] if layers else dims[1])
            item = {
                "groups": groups,
                "out": groups * _few(rng, max(1, channels // groups)),
                "kernel": kernel,
                "stride": tuple(map(int, rng.integers(1, 4, 2))),
                "dilation": tuple(map(int, rng.choice([1, 1, 2, 3], 2))),
                "pads": tuple(map(int, rng.integers(0, 4, 4))) if rng.random() < 0.6 else (0, 0, 0, 0),
            }
            layers.append(item)
            height, width = (
                (s + p - d * (k - 1) - 1) // t + 1
                for s, k, t, d, p in zip(
                    (height, width),
                    kernel,
                    item["stride"],
                    item["dilation"],
                    (item["pads"][0] + item["pads"][2], item["pads"][1] + item["pads"][3]),
                    strict=True,
                )
            )
            if min(height, width) < 1:
                break
        else:
            return conv_graph(rng, dims, layers)


def reference(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The network's output."""
    return reference_values(graph, x)[graph.outputs[0].value]


def reference_values(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """All values: int64 sums, then the contract's requantization."""
    values = {graph.inputs[0].value: x}
    for layer in graph.layers:
        zero_point, out = graph.values[layer.input].zero_point, graph.values[layer.output]
        top, left, bottom, right = layer.pads
        padded = np.pad(
            values[layer.input].astype(np.int64) - zero_point, ((0, 0), (0, 0), (top, bottom), (left, right))
        )
        _, _, rows, cols = out.dims
        sums, dense = np.zeros(out.dims, np.int64), _dense(layer)
        for ky, kx in np.ndindex(layer.weights.shape[2:]):
            y, x0 = ky * layer.dilation[0], kx * layer.dilation[1]
            window = padded[
                :,
                :,
                y : y + (rows - 1) * layer.stride[0] + 1 : layer.stride[0],
                x0 : x0 + (cols - 1) * layer.stride[1] + 1 : layer.stride[1],
            ]
            sums += np.einsum("bchw,oc->bohw", window, dense[:, :, ky, kx])
        acc = (sums + layer.bias[:, None, None]).astype(np.int32)
        values[layer.output] = requantize(acc, layer.scale[:, None, None], out.zero_point, layer.low, layer.high)
    return values


def run(program: Program, config: Config, x: np.ndarray, seed: int | None = None) -> np.ndarray:
    """The program's output on the instruction simulator; with a seed, units overtake each other at random."""
    return execute(program, config, x, seed).output(program.outputs[0], config.array)


def execute(program: Program, config: Config, x: np.ndarray, seed: int | None = None) -> Image:
    """The memory after a run."""
    memory = build(program, {program.inputs[0].name: x}, seed)
    before = memory.copy()
    simulate(program.code, config, memory, seed)
    assert not memory.stray_writes(before)
    return memory


def _port(name: str, values) -> Port:
    dims = values[name].dims
    return Port(name, dims, "int8", name, (0, 1, 2, 3), "int8")


def _dense(layer: Conv) -> np.ndarray:
    """The weights with zeros between groups, int64 [O, C, ky, kx]."""
    outputs, inputs = layer.weights.shape[0] // layer.groups, layer.weights.shape[1]
    dense = np.zeros((len(layer.weights), inputs * layer.groups, *layer.weights.shape[2:]), np.int64)
    for group in range(layer.groups):
        out = slice(group * outputs, (group + 1) * outputs)
        dense[out, group * inputs : (group + 1) * inputs] = layer.weights[out]
    return dense


def _groups(rng: np.random.Generator, channels: int) -> int:
    """Mostly 1; all channels, or another number that divides them."""
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    return int(rng.choice([1, 1, 1, channels, rng.choice(divisors)]))


def _few(rng: np.random.Generator, most: int) -> int:
    return int(rng.choice([1, 3, int(rng.integers(1, most + 1))]))
