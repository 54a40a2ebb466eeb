"""Small quantized networks with nodes that stay on the host, in every place of the network."""

import numpy as np
from onnx import TensorProto, helper

from systolith.sim.stimulus.model_writer import ModelWriter

CHANNELS, SIZE = 4, 6
STEP = 0.05


class Net(ModelWriter):
    """A network of quantized layers: each method takes an int8 tensor and gives one, or as it says."""

    def __init__(self, seed: int = 1, opset: int = 17):
        super().__init__(opset)
        self.rng = np.random.default_rng(seed)

    def real(self, x: str) -> str:
        """The float32 tensor behind an int8 one."""
        return self.dequantize(x, STEP, np.int8(3))

    def small(self, x: str) -> str:
        """The int8 tensor of a float32 one."""
        return self.quantize(x, STEP, np.int8(3))

    def conv(self, x: str, channels: int = CHANNELS) -> str:
        """A convolution, 3x3, same size."""
        weights = self.constant(self.rng.integers(-127, 128, (CHANNELS, channels, 3, 3)).astype(np.int8), "weights")
        w = self.dequantize(weights, 0.01, np.int8(0))
        return self.small(self.node("Conv", [self.real(x), w], pads=[1, 1, 1, 1]))

    def host(self, x: str) -> str:
        """Softmax over channels, which the accelerator does not run."""
        return self.small(self.node("Softmax", [self.real(x)], axis=1))

    def add(self, a: str, b: str) -> str:
        """A sum of two."""
        return self.small(self.node("Add", [self.real(a), self.real(b)]))

    def matmul(self, x: str, size: int) -> str:
        """A product with constant weights, size -> size."""
        weights = self.constant(self.rng.integers(-127, 128, (size, size)).astype(np.int8), "weights")
        return self.small(self.node("MatMul", [self.real(x), self.dequantize(weights, 0.01, np.int8(0))]))

    def image(self, name: str = "x") -> str:
        """A float32 input, quantized."""
        return self.small(self.input(name, np.float32, [1, CHANNELS, SIZE, SIZE]))

    def floats(self, x: str, shape) -> None:
        """Make the float32 tensor behind an int8 one an output."""
        self.output(self.real(x), np.float32, shape)


IMAGE = [1, CHANNELS, SIZE, SIZE]


def end() -> Net:
    """Softmax at the end: A H."""
    net = Net()
    x = net.conv(net.conv(net.image()))
    net.output(net.node("Softmax", [net.real(x)], axis=1), np.float32, IMAGE)
    return net


def begin() -> Net:
    """LRN before everything: H A."""
    net = Net()
    x = net.small(net.node("LRN", [net.input("x", np.float32, IMAGE)], size=3))
    net.floats(net.conv(x), IMAGE)
    return net


def middle() -> Net:
    """Softmax between convolutions, twice: A H A H A."""
    net = Net()
    x = net.image()
    for _ in range(2):
        x = net.host(net.conv(x))
    net.floats(net.conv(x), IMAGE)
    return net


def branches() -> Net:
    """Two branches, each with a Softmax, that run side by side: A H A."""
    net = Net()
    x = net.conv(net.image())
    left, right = (net.conv(net.host(net.conv(x))) for _ in range(2))
    net.floats(net.add(left, right), IMAGE)
    return net


def island() -> Net:
    """A float island of several nodes with a residual around it: float32 tensors never leave the host. A H A."""
    net = Net()
    x = net.real(net.conv(net.image()))
    y = net.node("Erf", [net.node("Softmax", [x], axis=1)])
    net.floats(net.conv(net.small(net.node("Add", [x, y]))), IMAGE)
    return net


def passing() -> Net:
    """A transformer's residual: the host's sum goes around a MatMul, in float32, from host part to host part."""
    net = Net()
    x = net.input("x", np.float32, [6, 8])
    scale, shift = (net.constant(net.rng.normal(size=8).astype(np.float32)) for _ in range(2))
    y = net.node("LayerNormalization", [x, scale, shift])
    z = net.real(net.matmul(net.small(y), 8))
    y = net.node("LayerNormalization", [net.node("Add", [y, z]), scale, shift])
    net.floats(net.matmul(net.small(y), 8), [6, 8])
    return net


def skipping() -> Net:
    """An int8 tensor of the first part that the host and a later part read as well."""
    net = Net()
    x = net.conv(net.image())
    net.floats(net.add(net.conv(net.host(x)), x), IMAGE)
    return net


def argmax() -> Net:
    """ArgMax: an int64 output, beside the scores as int8 and as float32."""
    net = Net()
    x = net.conv(net.image())
    net.output(x, np.int8, IMAGE)
    net.floats(x, IMAGE)
    y = net.node("ArgMax", [net.real(x)], axis=1, keepdims=0)
    net.outputs.append(_port(y, TensorProto.INT64, [1, SIZE, SIZE]))
    return net


def topk() -> Net:
    """TopK: a node with two outputs, both of the network."""
    net = Net()
    x = net.conv(net.image())
    k = net.constant(np.array([2], np.int64))
    y = net.node("TopK", [net.real(x), k], axis=1)
    net.nodes[-1].output.append("indices")
    net.output(y, np.float32, [1, 2, SIZE, SIZE])
    net.outputs.append(_port("indices", TensorProto.INT64, [1, 2, SIZE, SIZE]))
    return net


def shapes() -> Net:
    """A Reshape whose shape is computed from a tensor's, around a node on the host."""
    net = Net()
    x = net.conv(net.image())
    y = net.node("Softmax", [net.real(x)], axis=1)
    batch = net.node("Gather", [net.node("Shape", [net.real(x)]), net.constant(np.array([0], np.int64))])
    size = net.node("ReduceProd", [net.node("Shape", [y], start=1, end=-1)], axes=[0], keepdims=1)
    rest = net.node("Mul", [size, net.node("Shape", [x], start=-1)])
    shape = net.node("Concat", [batch, rest], axis=0)
    flat = net.small(net.node("Reshape", [y, shape]))
    net.floats(net.matmul(flat, CHANNELS * SIZE * SIZE), [1, CHANNELS * SIZE * SIZE])
    return net


def inputs() -> Net:
    """Two inputs, one for the host alone; the other one, quantized, is an output, and so is a constant."""
    net = Net()
    x = net.image()
    other = net.node("Exp", [net.input("other", np.float32, IMAGE)])
    y = net.node("Mul", [net.real(net.conv(x)), other])
    net.output(y, np.float32, IMAGE)
    net.output(x, np.int8, IMAGE)
    net.output(net.node("Identity", [net.constant(np.arange(3, dtype=np.float32))]), np.float32, [3])
    return net


def choice() -> Net:
    """If: graphs inside a node that read tensors of the accelerator from outside."""
    net = Net()
    x = net.conv(net.image())
    real = net.real(x)
    large = net.node("Greater", [net.node("ReduceMax", [real], keepdims=0), net.constant(np.float32(0))])
    then, other = (
        helper.make_graph(
            [helper.make_node(op, [real], [f"{op}_y"])], op, [], [_port(f"{op}_y", TensorProto.FLOAT, IMAGE)]
        )
        for op in ("Erf", "Neg")
    )
    y = net.node("If", [large], then_branch=then, else_branch=other)
    net.floats(net.conv(net.small(y)), IMAGE)
    return net


def moving() -> Net:
    """A Transpose between two nodes on the host is no work for the accelerator: A H."""
    net = Net()
    x = net.node("Transpose", [net.host(net.conv(net.image()))], perm=[0, 2, 3, 1])
    net.output(net.node("Softmax", [net.real(x)], axis=1), np.float32, [1, SIZE, SIZE, CHANNELS])
    return net


def around() -> Net:
    """A convolution's float32 result goes around a node on the host, to an Add: neither can be cut off. A H A."""
    net = Net()
    x = net.conv(net.image())
    weights = net.dequantize(net.constant(np.full((CHANNELS, CHANNELS, 1, 1), 9, np.int8)), 0.01, np.int8(0))
    total = net.node("Conv", [net.real(x), weights], name="around")
    y = net.node("Softmax", [net.real(net.small(total))], axis=1)
    z = net.node("Add", [total, net.real(net.small(y))], name="sum")
    net.floats(net.conv(net.small(z)), IMAGE)
    return net


def tied() -> Net:
    """The same around a MaxPool. The convolution has two readers, so it and the sum run on the host. A H A H A."""
    net = Net()
    x = net.host(net.conv(net.image()))
    weights = net.dequantize(net.constant(np.full((CHANNELS, CHANNELS, 1, 1), 9, np.int8)), 0.01, np.int8(0))
    total = net.node("Conv", [net.real(x), weights])
    y = net.node("MaxPool", [net.real(net.small(total))], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    z = net.node("Add", [total, net.real(net.small(y))])
    net.floats(net.conv(net.small(z)), IMAGE)
    return net


def integers() -> Net:
    """An int32 product of the host, dequantized for the accelerator: it may not go between the two."""
    net = Net()
    x = net.small(net.input("x", np.float32, [6, 8]))
    weights = net.constant(net.rng.integers(-127, 128, (8, 8)).astype(np.int8), "weights")
    y = net.node("MatMulInteger", [net.matmul(x, 8), weights])
    y = net.node("DequantizeLinear", [y, net.constant(np.float32(0.001))])
    net.floats(net.matmul(net.small(net.node("Relu", [y])), 8), [6, 8])
    return net


def stored() -> Net:
    """Outputs that nothing computes: an input, and an initializer that the accelerator reads as well."""
    net = Net()
    net.output(net.node("Softmax", [net.real(net.conv(net.image()))], axis=1), np.float32, IMAGE)
    net.outputs.append(_port("x", TensorProto.FLOAT, IMAGE))
    weights = next(tensor for tensor in net.initializers if "weights" in tensor.name)
    net.outputs.append(_port(weights.name, TensorProto.INT8, weights.dims))
    return net


def loop() -> Net:
    """Loop, of whose output not even the rank is known: the convolution behind it is the host's."""
    net = Net()
    x = net.real(net.conv(net.image()))
    ports = [_port("i", TensorProto.INT64, []), _port("go", TensorProto.BOOL, []), _port("v", TensorProto.FLOAT, IMAGE)]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", x], ["sum"])]
    outputs = [_port("on", TensorProto.BOOL, []), _port("sum", TensorProto.FLOAT, IMAGE)]
    body = helper.make_graph(nodes, "body", ports, outputs)
    y = net.node("Loop", [net.constant(np.int64(3)), net.constant(np.array(True)), x], body=body)
    net.floats(net.conv(net.small(y)), IMAGE)
    return net


def sequence() -> Net:
    """A sequence of tensors, which stays on the host, and what reads an element, of which no shape is known."""
    net = Net()
    x = net.real(net.conv(net.image()))
    both = net.node("SequenceConstruct", [x, x])
    y = net.node("SequenceAt", [both, net.constant(np.int64(1))])
    net.floats(net.conv(net.small(y)), IMAGE)
    return net


def found() -> Net:
    """NonZero: an output whose shape depends on data."""
    net = Net()
    x = net.conv(net.image())
    net.floats(x, IMAGE)
    net.outputs.append(_port(net.node("NonZero", [net.real(x)]), TensorProto.INT64, [4, "found"]))
    return net


def _port(name: str, kind: int, shape):
    return helper.make_tensor_value_info(name, kind, shape)


MODELS = {
    "end": (end, "AH"), "begin": (begin, "HA"), "middle": (middle, "AHAHA"), "branches": (branches, "AHA"),
    "island": (island, "AHA"), "passing": (passing, "HAHA"), "skipping": (skipping, "AHA"), "argmax": (argmax, "AH"),
    "moving": (moving, "AH"), "around": (around, "AHA"), "tied": (tied, "AHAHA"), "integers": (integers, "AHA"),
    "topk": (topk, "AH"), "shapes": (shapes, "AHA"), "inputs": (inputs, "AH"), "choice": (choice, "AHA"),
    "stored": (stored, "AH"), "loop": (loop, "AH"), "sequence": (sequence, "AH"), "found": (found, "AH"),
}  # fmt: skip
"""Networks by name, and their parts: accelerator and host."""


def layernorms(count: int) -> Net:
    """Many nodes for the host, all in one walk: matrices between LayerNormalizations."""
    net = Net()
    x = net.small(net.input("x", np.float32, [6, 8]))
    for _ in range(count):
        scale, shift = (net.constant(net.rng.normal(size=8).astype(np.float32)) for _ in range(2))
        y = net.node("LayerNormalization", [net.real(net.matmul(x, 8)), scale, shift])
        x = net.small(y)
    net.floats(net.matmul(x, 8), [6, 8])
    return net
