"""Networks of all kinds of layers, built by hand or at random."""

from dataclasses import replace

import numpy as np

from systolith.compiler.ir.graph import (
    Add,
    Concat,
    Conv,
    Graph,
    Inside,
    Layer,
    Multiply,
    Port,
    Select,
    SfuOp,
    Value,
    Window,
)
from systolith.compiler.ir.verify import output_dims, verify
from systolith.numerics import add_constants

Dims = tuple[int, int, int, int]


class Network:
    """Builds a graph layer by layer; each method returns the name of what it made."""

    def __init__(self, dims: Dims, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.values: dict[str, Value] = {}
        self.layers: list[Layer] = []
        self.inputs: list[str] = []
        self.x = self.input(dims)

    def input(self, dims: Dims) -> str:
        name = f"x{len(self.inputs)}"
        self.values[name] = Value(name, dims, 0.5, self._zero())
        self.inputs.append(name)
        return name

    def channels(self, name: str) -> int:
        return self.values[name].dims[1]

    def conv(self, x: str, out: int, kernel=(3, 3), groups: int = 1, inside: Inside | None = None, **window) -> str:
        shape = out, self.channels(x) // groups, *kernel
        weights = self.rng.integers(-128, 128, shape).astype(np.int8)
        spread = 74 * 74 * np.sqrt(weights[0].size)
        bias = self.rng.integers(-1000, 1000, out).astype(np.int32)
        scale = (self.rng.uniform(0.5, 2.0, out) * 60 / spread).astype(np.float32)
        zero, low, high = self._zero(), int(self.rng.integers(-128, -60)), int(self.rng.integers(60, 128))
        layer = Conv(self._name("conv"), "Conv", x, "", weights, bias, scale, groups=groups, zero_point=zero,
                     low=low, high=high, **window)  # fmt: skip
        return self._append(layer, zero, inside)

    def depthwise(self, x: str, each: int = 1, kernel=(3, 3), **window) -> str:
        return self.conv(x, self.channels(x) * each, kernel, self.channels(x), **window)

    def pool(self, x: str, reduce: str = "max", **window) -> str:
        value = self.values[x]
        factors = {"x_zero": value.zero_point, "x_scale": 0.5, "y_scale": 0.5}
        zero, pad = (value.zero_point, 0) if reduce == "average" else (0, -128)
        layer = SfuOp(self._name(reduce), "Pool", x, "", Window(**window), reduce, pad, zero_point=zero, **factors)
        return self._append(layer, value.zero_point)

    def crop(self, x: str, pads: tuple[int, int, int, int]) -> str:
        """Pads, or with negative numbers leaves out, rows and columns."""
        value = self.values[x]
        layer = SfuOp(self._name("pad"), "Pad", x, "", Window(pads=pads), pad=value.zero_point)
        return self._append(layer, value.zero_point)

    def copy(self, x: str) -> str:
        return self._append(SfuOp(self._name("copy"), "Identity", x, ""), self.values[x].zero_point)

    def clip(self, x: str, low: int, high: int) -> str:
        return self._append(SfuOp(self._name("clip"), "Clip", x, "", low=low, high=high), self.values[x].zero_point)

    def table(self, x: str, rising: bool = False) -> str:
        table = self.rng.integers(-128, 128, 256).astype(np.int8)
        if rising:
            table = np.roll(np.sort(table), -128)
        return self._append(SfuOp(self._name("table"), "Tanh", x, "", table=table), self._zero())

    def add(self, x: str, y: str, table: bool = False) -> str:
        zeros, zero = (self.values[x].zero_point, self.values[y].zero_point), self._zero()
        scales = self.rng.uniform(0.2, 2.0, 2)
        second = Add(y, zeros, add_constants(scales[0], scales[1], 1.0), zero, low=int(self.rng.integers(-128, 0)))
        entries = self.rng.integers(-128, 128, 256).astype(np.int8) if table else None
        return self._append(SfuOp(self._name("add"), "Add", x, "", add=second, table=entries), zero)

    def multiply(self, x: str, y: str) -> str:
        zeros, zero = (self.values[x].zero_point, self.values[y].zero_point), self._zero()
        layer = SfuOp(self._name("mul"), "Mul", x, "", multiply=Multiply(y, zeros), x_scale=0.01, zero_point=zero)
        return self._append(layer, zero)

    def concat(self, *names: str, axis: int = 1) -> str:
        return self._append(Concat(self._name("concat"), "Concat", names, "", axis), self.values[names[0]].zero_point)

    def select(self, x: str, channels) -> str:
        layer = Select(self._name("select"), "Split", x, "", tuple(int(c) for c in channels))
        return self._append(layer, self.values[x].zero_point)

    def shuffle(self, x: str, groups: int) -> str:
        return self.select(x, np.arange(self.channels(x)).reshape(groups, -1).T.ravel())

    def value(self, name: str, dims: Dims) -> str:
        """A value that parts will make."""
        self.values[name] = Value(name, dims, 0.5, self._zero())
        return name

    def graph(self, *outputs: str) -> Graph:
        ports = [tuple(_port(self.values[name]) for name in names) for names in (self.inputs, outputs)]
        return verify(Graph("test", self.values, tuple(self.layers), *ports))

    def _append(self, layer: Layer, zero_point: int, inside: Inside | None = None) -> str:
        graph = Graph("test", self.values, (), (), ())
        self.values[layer.name] = Value(layer.name, output_dims(graph, layer), 0.5, zero_point, inside)
        self.layers.append(replace(layer, output=layer.name))
        return layer.name

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.layers)}"

    def _zero(self) -> int:
        return int(self.rng.integers(-30, 30))


def random_network(seed: int, depth: int = 12, channels: int = 24, size: int = 9, recent: int = 5) -> Graph:
    """Layers of all kinds, on values drawn from the last `recent`; what nobody reads is an output, some others are."""
    net = Network((1, 1, 1, 1), seed)
    net.values.clear()
    net.inputs.clear()
    rng = net.rng
    batch, height, width = int(rng.choice([1, 1, 2])), int(rng.integers(1, size)), int(rng.integers(1, size))
    names = [net.input((batch, int(rng.integers(1, channels)), height, width)) for _ in range(rng.integers(1, 3))]
    while len(net.layers) < depth:
        x = str(rng.choice(names[-recent:]))
        name = _random_layer(net, x, names, channels)
        names += [name] if name is not None else []
    read = {name for layer in net.layers for name in layer.inputs}
    made = [layer.output for layer in net.layers]
    outputs = [name for name in made if name not in read or rng.random() < 0.05]
    return net.graph(*outputs)


def _random_layer(net: Network, x: str, names: list[str], channels: int) -> str | None:
    rng, (batch, count, height, width) = net.rng, net.values[x].dims
    alike = [name for name in names if net.values[name].dims == (batch, count, height, width)]
    images = [name for name in names if net.values[name].dims[2:] == (height, width)]
    kernel = tuple(int(k) for k in rng.integers(1, min(4, height + 1, width + 1), 2))
    match rng.choice(["conv", "conv", "conv", "same", "groups", "depthwise", "max", "apart", "average", "crop", "copy",
                      "clip", "table", "rising", "add", "add", "multiply", "concat", "concat", "rows", "select",
                      "split", "shuffle", "images", "steps"]):  # fmt: skip
        case "conv":
            stride, out = tuple(int(s) for s in rng.integers(1, 3, 2)), int(rng.integers(1, channels))
            return net.conv(x, out, kernel, stride=stride, pads=tuple(int(p) for p in rng.integers(0, 2, 4)))
        case "same":
            return net.conv(x, count, (3, 3), pads=(1, 1, 1, 1))
        case "groups":
            groups = int(rng.choice([g for g in range(1, count + 1) if count % g == 0]))
            return net.conv(x, groups * int(rng.integers(1, 4)), kernel, groups)
        case "depthwise":
            return net.depthwise(x, int(rng.choice([1, 1, 1, 2])), (3, 3), pads=(1, 1, 1, 1))
        case "max":
            return net.pool(x, "max", kernel=kernel, pads=(0, 0, kernel[0] - 1, kernel[1] - 1))
        case "apart":
            return net.pool(x, "max", kernel=kernel, stride=kernel)
        case "average":
            return net.pool(x, "average", kernel=kernel, stride=kernel)
        case "crop":
            pads = tuple(int(p) for p in rng.integers(-1, 3, 4))
            return net.crop(x, pads) if min(height + pads[0] + pads[2], width + pads[1] + pads[3]) > 0 else None
        case "copy":
            return net.copy(x)
        case "clip":
            return net.clip(x, int(rng.integers(-128, 0)), int(rng.integers(0, 128)))
        case "table":
            return net.table(x)
        case "rising":
            return net.table(x, rising=True)
        case "add":
            others = [name for name in alike if name != x] or [x]
            return net.add(x, str(rng.choice(others)), bool(rng.random() < 0.3))
        case "multiply":
            small = [n for n in names if net.values[n].dims[:2] == (batch, count) and net.values[n].dims[2:] == (1, 1)]
            return net.multiply(x, str(rng.choice([*alike, *small])))
        case "concat" if count < 4 * channels:
            parts = rng.choice(images[-4:], int(rng.integers(1, 3)))
            return net.concat(x, *(str(name) for name in parts))
        case "rows" if height < 12:
            return net.concat(x, str(rng.choice(alike)), axis=int(rng.choice([2, 3])))
        case "select":
            return net.select(x, rng.integers(0, count, int(rng.integers(1, count + 1))))
        case "split":
            first = int(rng.integers(0, count))
            return net.select(x, range(first, int(rng.integers(first, count)) + 1))
        case "shuffle":
            return net.shuffle(x, int(rng.choice([g for g in range(1, count + 1) if count % g == 0])))
        case "images" if batch < 4:
            other = [name for name in images if net.channels(name) == count]
            found = net.concat(x, str(rng.choice(other)), axis=0)
            return found if net.values[found].dims[0] == batch else None
        case "steps" if height < 12 and width < 12:
            return _interleaved(net, x, int(rng.integers(1, channels)))
    return None


def _interleaved(net: Network, x: str, out: int) -> str:
    """What a transposed convolution becomes: the rows of two convolutions in turn."""
    batch, _, height, width = net.values[x].dims
    whole = net.value(f"whole{len(net.layers)}", (batch, out, 2 * height, width))
    for top in range(2):
        net.conv(x, out, (1, 1), inside=Inside(whole, top=top, step_y=2))
    return whole


def _port(value: Value) -> Port:
    return Port(value.name, value.dims, "int8", value.name, (0, 1, 2, 3), "int8")
