"""Random control flow and sequences: If, Loop, Scan, sequences and optionals around quantized tensors.

Graphs inside nodes read tensors from outside, accelerator's and host's, and have quantized layers of their own.
"""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from systolith.sim.stimulus.draws import require
from systolith.sim.stimulus.host_parts.tensors import Body, HostTensors
from systolith.sim.stimulus.tensors import Quantized

__all__ = ["choice", "loop", "scan", "sequence"]

FUNCTIONS = ("Relu", "Neg", "Sigmoid", "Tanh", "Abs", "Erf", "Exp", "Identity", "Softmax")


def choice(net: HostTensors, x: Quantized, others: Sequence[Quantized]) -> list[Quantized]:
    """If, on a network input or on data: its branches read x, and perhaps another tensor of its shape."""
    real = net.real(x)
    alike = [y for y in others if y.shape == x.shape and y is not x]
    other = net.real(net.choice(alike)) if alike and net.chance(60) else real
    condition = _condition(net, x, real)
    then, otherwise = (_branch(net, name, x, net.choice([real, other]), 1) for name in ("then", "else"))
    return [net.back(net.host("If", [condition], then_branch=then, else_branch=otherwise))]


def _condition(net: HostTensors, x: Quantized, real: str) -> str:
    """A bool scalar."""
    match net.integer(0, 3):
        case 0:
            return net.free_input(np.array(net.chance(50)))
        case 1:
            return net.constant(np.array(net.chance(50)))
        case 2:
            largest = net.host("ReduceMax", [real], keepdims=0)
            return net.host("Greater", [largest, net.floats(np.float32(x.real.max() - x.scale * 1.5))])
        case _:
            mean = net.host("ReduceMean", [real], keepdims=0)
            small = net.host("Less", [mean, net.floats(float(net.rng.normal(0, 0.5)))])
            return net.host("Not", [small]) if net.chance(40) else small


def _branch(net: HostTensors, name: str, x: Quantized, real: str, depth: int):
    """A graph without inputs that gives a tensor of the shape of x."""
    body = Body(net, name)
    match net.integer(0, 4):
        case 0 | 1:
            y = body.node(net.choice(FUNCTIONS), [real])
        case 2:
            y = body.node("Mul", [real, body.constant(np.float32(0.7))])
        case 3 if depth:
            inner = [_branch(net, f"{name}{i}", x, real, depth - 1) for i in range(2)]
            sum_ = body.node("ReduceSum", [real], keepdims=0)
            y = body.node("Greater", [sum_, body.constant(np.float32(0))])
            y = body.node("If", [y], then_branch=inner[0], else_branch=inner[1])
        case _:
            y = _quantized_layer(body, net, x, real)
    return body.graph([], [(y, np.float32, x.shape if net.chance(70) else None)])


def _quantized_layer(body: Body, net: HostTensors, x: Quantized, real: str) -> str:
    """A layer between QuantizeLinear and DequantizeLinear, that keeps the shape; constants inside or outside."""
    stored = body.constant if net.chance(50) else net.constant
    parameters = [stored(x.scale), stored(x.zero_point)]
    y = body.node("DequantizeLinear", [body.node("QuantizeLinear", [real, *parameters]), *parameters])
    if len(x.shape) == 4:
        channels = x.shape[1]
        shape, op, more = (channels, channels, 1, 1), "Conv", {}
    else:
        shape, op, more = (x.shape[-1], x.shape[-1]), "MatMul", {}
    weights = net.rng.integers(-99, 100, shape).astype(np.int8)
    w = body.node("DequantizeLinear", [stored(weights), stored(np.float32(0.01)), stored(np.int8(0))])
    y = body.node(op, [y, w], **more)
    out = [stored(np.float32(x.scale * 2)), stored(x.zero_point)]
    return body.node("DequantizeLinear", [body.node("QuantizeLinear", [y, *out]), *out])


def loop(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Loop with a carried state and perhaps scan outputs: as often as stored, as an input says, or as data says."""
    real = net.real(x)
    body = Body(net, "loop")
    i, go, v = (f"{body.prefix}_{name}" for name in ("i", "go", "v"))
    half = body.node("Mul", [v, body.constant(np.float32(0.5))])
    state = body.node("Add", [half, _quantized_layer(body, net, x, real) if net.chance(40) else real])
    again = body.node("Identity", [go])
    if net.chance(40):
        again = body.node("Less", [body.node("ReduceMax", [state], keepdims=0), body.constant(np.float32(5))])
    scanned = net.chance(50)
    outputs = [(again, bool, []), (state, np.float32, x.shape)]
    if scanned:
        row = body.node("ReduceMean", [state], keepdims=0)
        count = body.node("Mul", [row, body.node("Cast", [i], to=TensorProto.FLOAT)])
        outputs.append((count, np.float32, []))
    graph = body.graph([(i, np.int64, []), (go, bool, []), (v, np.float32, x.shape)], outputs)
    names = net.hosts("Loop", [_trips(net, x, real), net.constant(np.array(True)), real], 1 + scanned, body=graph)
    if scanned:
        net.result(names[1])
    return [net.back(names[0])]


def _trips(net: HostTensors, x: Quantized, real: str) -> str:
    """How often a Loop runs: 1 to 6, an int64 scalar."""
    match net.integer(0, 2):
        case 0:
            return net.ints(net.integer(1, 4))
        case 1:
            return net.free_input(np.array(net.integer(1, 4), np.int64))
        case _:
            large = net.host("Greater", [net.flat(real), net.floats(float(np.quantile(x.real, 0.7)) + 1e-3)])
            count = net.reduced("ReduceSum", net.int_of(large), [0], 0)
            return net.host("Max", [net.host("Min", [count, net.ints(6)]), net.ints(1)])


def scan(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Scan over one axis: running sums or maxima."""
    axis = net.integer(1, len(x.shape) - 1)
    rest = [n for i, n in enumerate(x.shape) if i != axis]
    body = Body(net, "scan")
    state, row = f"{body.prefix}_state", f"{body.prefix}_row"
    y = body.node(net.choice(["Add", "Max"]), [state, row])
    y = body.node("Mul", [y, body.constant(np.float32(0.8))])
    copy = body.node("Identity", [y])
    ports = [(name, np.float32, rest) for name in (state, row, y, copy)]
    start = net.floats(np.zeros(rest))
    names = net.hosts("Scan", [start, net.real(x)], 2, body=body.graph(ports[:2], ports[2:]), num_scan_inputs=1,
                      scan_input_axes=[axis], scan_output_axes=[axis],
                      scan_input_directions=[net.integer(0, 1)])  # fmt: skip
    if net.chance(30):
        net.result(names[0])
    return [net.back(names[1])]


def sequence(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Sequences and optionals: built, split, changed, read, joined."""
    real = net.real(x)
    first = len(net.writer.nodes)
    axis = net.integer(1, len(x.shape) - 1)
    match net.integer(0, 4):
        case 0:
            y = net.host("Neg", [real])
            first = len(net.writer.nodes)
            both = net.opaque("SequenceConstruct", [real, y, real])
            return [net.back(net.finished("SequenceAt", [both, net.ints(net.integer(0, 2))], first))]
        case 1:
            pieces = net.opaque("SplitToSequence", [real], axis=axis, keepdims=1)
            pieces = net.opaque("SequenceErase", [pieces, net.ints(0)]) if x.shape[axis] > 1 else pieces
            return [net.back(net.finished("ConcatFromSequence", [pieces], first, axis=axis))]
        case 2:
            both = net.opaque("SequenceInsert", [net.opaque("SequenceConstruct", [real]), real, net.ints(0)])
            if net.chance(30):
                net.result(net.finished("SequenceLength", [both], first))
                require(bool(len(net.writer.outputs)))
                return []
            return [net.back(net.finished("ConcatFromSequence", [both], first, axis=axis, new_axis=0))]
        case 3:
            require(net.writer.opset >= 15)
            some = net.opaque("Optional", [real])
            if net.chance(30):
                net.result(net.finished("OptionalHasElement", [some], first))
                return []
            return [net.back(net.finished("OptionalGetElement", [some], first))]
        case _:
            pieces = net.opaque("SplitToSequence", [real], axis=axis, keepdims=1)
            return [net.back(_mapped(net, x, pieces, axis, first))]


def _mapped(net: HostTensors, x: Quantized, pieces: str, axis: int, first: int) -> str:
    """Pieces of a sequence, each the input of a Loop's turn, joined: as SequenceMap would."""
    body = Body(net, "each")
    i, go = (f"{body.prefix}_{name}" for name in ("i", "go"))
    piece = body.node("SequenceAt", [pieces, i])
    y = body.node("Squeeze", [piece, net.ints([axis])])
    y = body.node("Tanh", [y])
    rest: list[int | str] = [n for k, n in enumerate(x.shape) if k != axis]
    graph = body.graph([(i, np.int64, []), (go, bool, [])],
                       [(body.node("Identity", [go]), bool, []), (y, np.float32, rest)])  # fmt: skip
    trips, true = net.ints(x.shape[axis]), net.constant(np.array(True))
    joined = net.finished("Loop", [trips, true], first, body=graph)
    order = list(range(1, len(x.shape)))
    order.insert(axis, 0)
    return net.host("Transpose", [joined], perm=order)
