"""Random tensors whose shapes depend on data, of every kind: `SOURCES`.

Each makes one of a tensor x: float32, or int64 of indices, of two dimensions at most. The first depends on data.
"""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

from systolith.sim.stimulus.draws import require
from systolith.sim.stimulus.host_parts.tensors import Body, HostTensors
from systolith.sim.stimulus.tensors import Quantized

__all__ = ["SOURCES"]


def _nonzero(net: HostTensors, x: Quantized) -> str:
    """Where a tensor is large: [count, rank], int64."""
    return net.host("Transpose", [net.host("NonZero", [_large(net, net.real(x))])], perm=[1, 0])


def _compress(net: HostTensors, x: Quantized) -> str:
    """The large elements; of integers perhaps, which are dequantized then."""
    real = net.real(x)
    condition = net.flat(_large(net, real))
    if net.chance(40):
        integers = net.host("Compress", [net.known(x), condition])
        return net.host("DequantizeLinear", [integers, *map(net.constant, (x.scale, x.zero_point))])
    return net.host("Compress", [real, condition])


def _compress_rows(net: HostTensors, x: Quantized) -> str:
    """The rows of an axis whose mean is large."""
    real = net.shaped(net.real(x), [-1, x.shape[-1]])
    means = net.reduced("ReduceMean", real, [1], 0)
    return net.host("Compress", [real, _large(net, means)], axis=0)


def _top(net: HostTensors, x: Quantized) -> str:
    """The largest, as many as are above a threshold, or their places."""
    real = net.real(x)
    count = net.host("Reshape", [_counted(net, real), net.ints([1])])
    attributes = {"axis": 0, "sorted": 1, "largest": net.integer(0, 1)}
    return net.choice(net.hosts("TopK", [net.flat(real), count], 2, **attributes))


def _unique(net: HostTensors, x: Quantized) -> str:
    """Values without repetition, their places or how many there are of each."""
    return net.choice(net.hosts("Unique", [net.flat(net.real(x))], 4, sorted=net.integer(0, 1)))


def _gather(net: HostTensors, x: Quantized) -> str:
    """Elements at the places of NonZero, by GatherND, or of a flat tensor by Gather, behind a Where."""
    real = net.real(x)
    large = _large(net, real)
    if net.chance(50):
        return net.host("GatherND", [real, net.host("Transpose", [net.host("NonZero", [large])], perm=[1, 0])])
    kept = net.flat(net.host("Where", [large, real, net.floats(0)]))
    return net.host("Gather", [kept, net.host("Squeeze", [net.host("NonZero", [kept]), net.ints([0])])], axis=0)


def _suppressed(net: HostTensors, x: Quantized) -> str:
    """NonMaxSuppression of boxes, whose scores are the tensor: [count, 3], int64."""
    real = net.flat(net.real(x))
    size = x.values.size
    require(2 <= size <= 60)
    corners = np.sort(net.rng.uniform(0, 10, (1, size, 2, 2)).astype(np.float32), axis=2).reshape(1, size, 4)
    scores = net.unsqueezed(real, [0, 1])
    limits = [net.ints([net.integer(1, size)]), net.floats([0.3]), net.floats([float(np.quantile(x.real, 0.4))])]
    found = net.host("NonMaxSuppression", [net.constant(corners), scores, *limits])
    if net.chance(40):
        return found
    places = net.host("Gather", [found, net.ints(2)], axis=1)
    return net.host("Gather", [net.host("Squeeze", [net.constant(corners), net.ints([0])]), places], axis=0)


def _sliced(net: HostTensors, x: Quantized) -> str:
    """As many of the first elements as are large."""
    real = net.real(x)
    count = net.unsqueezed(_counted(net, real), [0])
    return net.host("Slice", [net.flat(real), net.ints([0]), count])


def _positions(net: HostTensors, x: Quantized) -> str:
    """0, 1, ... as many as are large: int64, or float32."""
    y = net.host("Range", [net.ints(0), _counted(net, net.real(x)), net.ints(1)])
    return net.float_of(y) if net.chance(50) else y


def _copies(net: HostTensors, x: Quantized) -> str:
    """A row as many times as elements are large: by Expand, Tile or ConstantOfShape."""
    real = net.real(x)
    width = net.integer(1, 4)
    row = net.floats(net.rng.normal(0, 1, (1, width)))
    shape = net.host("Concat", [net.unsqueezed(_counted(net, real), [0]), net.ints([width])], axis=0)
    match net.integer(0, 2):
        case 0:
            return net.host("Expand", [row, shape])
        case 1:
            return net.host("Tile", [row, net.host("Max", [shape, net.ints([1, 1])])])
        case _:
            return net.host("ConstantOfShape", [shape], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.75]))


def _one_hot(net: HostTensors, x: Quantized) -> str:
    """OneHot of as many classes as elements are large: [count, few]."""
    depth = _counted(net, net.real(x))
    few = net.ints(net.rng.integers(0, 3, net.integer(1, 4)))
    return net.host("OneHot", [few, depth, net.floats([0.1, 1.5])], axis=0)


def _collected(net: HostTensors, x: Quantized) -> str:
    """Scan outputs of a Loop that runs as often as elements are large, or until a sum is reached."""
    real = net.real(x)
    body = Body(net, "collect")
    total = body.node("Add", [f"{body.prefix}_v", net.floats(0.75)])
    row = body.node("Mul", [total, net.reduced("ReduceMax", real, list(range(len(x.shape))), 0)])
    limit = body.constant(np.float32(net.integer(1, 6)))
    go = body.node("Less", [total, limit]) if net.chance(60) else body.node("Identity", [f"{body.prefix}_go"])
    inputs = [(f"{body.prefix}_i", np.int64, []), (f"{body.prefix}_go", bool, []), (f"{body.prefix}_v", np.float32, [])]
    outputs = [(go, bool, []), (total, np.float32, []), (row, np.float32, [])]
    trips = _counted(net, real) if net.chance(50) else net.ints(9)
    start = net.floats(0)
    graph = body.graph(inputs, outputs)
    return net.hosts("Loop", [trips, net.constant(np.array(True)), start], 2, body=graph)[1]


def _either(net: HostTensors, x: Quantized) -> str:
    """An If whose branches have different shapes."""
    flat = net.flat(net.real(x))
    size = x.values.size
    branches = []
    for end in (net.integer(1, size), size):
        body = Body(net, f"either{end}_")
        part = body.node("Slice", [flat, *(body.constant(np.array([n], np.int64)) for n in (0, end))])
        y = body.node("Neg", [part])
        branches.append(body.graph([], [(y, np.float32, None if net.chance(50) else [f"{body.prefix}_n"])]))
    condition = net.host("Greater", [net.reduced("ReduceMean", flat, [0], 0), net.floats(float(np.mean(x.real)) - 0.1)])
    return net.host("If", [condition], then_branch=branches[0], else_branch=branches[1])


def _split(net: HostTensors, x: Quantized) -> str:
    """One of the pieces of SplitToSequence, as long as the number of large elements."""
    real = net.real(x)
    count = net.host("Max", [_counted(net, real), net.ints(1)])
    flat, first = net.flat(real), len(net.writer.nodes)
    pieces = net.opaque("SplitToSequence", [flat, count], axis=0)
    return net.finished("SequenceAt", [pieces, net.ints(net.choice([0, -1]))], first)


def _asked(net: HostTensors, x: Quantized) -> str:
    """As many elements, or copies of a row, as a network input says."""
    flat = net.flat(net.real(x))
    asked = net.free_input(np.array([net.integer(1, x.values.size)], np.int64))
    match net.integer(0, 2):
        case 0:
            return net.host("Slice", [flat, net.ints([0]), asked])
        case 1:
            return net.choice(net.hosts("TopK", [flat, asked], 2, axis=0))
        case _:
            shape = net.free_input(np.array([net.integer(1, 5), net.integer(1, 3)], np.int64))
            return net.host("Expand", [net.floats([[0.5]]), shape])


def _places(net: HostTensors, x: Quantized) -> str:
    """Where 8-bit integers are not zero: [count], int64."""
    known = net.known(x)
    found = net.host("NonZero", [known if net.chance(50) else net.host("Cast", [known], to=TensorProto.BOOL)])
    return net.host("Gather", [found, net.ints(net.integer(0, len(x.shape) - 1))], axis=0)


SOURCES: dict[str, Callable[[HostTensors, Quantized], str]] = {
    "nonzero": _nonzero, "compress": _compress, "compress_rows": _compress_rows, "top": _top, "unique": _unique,
    "gather": _gather, "suppressed": _suppressed, "sliced": _sliced, "positions": _positions, "copies": _copies,
    "one_hot": _one_hot, "asked": _asked, "places": _places, "collected": _collected, "either": _either,
    "split": _split,
}  # fmt: skip


def _large(net: HostTensors, real: str) -> str:
    """Which elements are above a threshold: it lies between two of them mostly, and else above all."""
    values = np.unique(net.values(real))
    require(len(values) > 1)
    place = int(len(values) * net.choice([0.5, 0.2, 0.8]))
    place = min(max(place, 1), len(values) - 1)
    threshold = np.float32((values[place - 1] + values[place]) / 2)
    if net.chance(5):
        threshold = np.float32(values[-1] + 1)
    return net.host(net.choice(["Greater", "GreaterOrEqual", "Less"]), [real, net.floats(threshold)])


def _counted(net: HostTensors, real: str) -> str:
    """How many elements are large: an int64 scalar."""
    return net.reduced("ReduceSum", net.cast(net.flat(_large(net, real)), TensorProto.INT64), [0], 0)
