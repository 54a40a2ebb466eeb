"""Random tensors whose shapes depend on data, and what networks do with them and with their counts.

`count_chain` makes one (`SOURCES`), perhaps takes its count in one of several ways, and uses both (`USES`): as outputs,
in arithmetic, and back to a shape that does not depend on data, so that the accelerator goes on.
"""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto, helper

from systolith.sim.host_tensors import Body, HostTensors
from systolith.sim.random_draws import require
from systolith.sim.random_host_shapes import dim_of, shape_of
from systolith.sim.random_tensors import Quantized

__all__ = ["SOURCES", "USES", "count_chain"]

MOST = 2000
"""Elements of a tensor with which it is done."""


def count_chain(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """A tensor whose first dimension depends on the data of x, and one or two uses of it."""
    require(x.values.size <= MOST)
    rows = net.choice(list(SOURCES.values()))(net, x)
    if not net.shape(rows)[0]:
        _count_output(net, rows, x)
        return _rows_output(net, rows, x)
    made: list[Quantized] = []
    for _use in range(net.integer(1, 2)):
        made += net.choice(list(USES.values()))(net, rows, x)
    return made


# Sources: tensors whose first dimension depends on data. Two dimensions at most; float32, or int64 of indices.


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


# Uses: of such a tensor, `rows`, that was made of x.


def _count_output(net: HostTensors, rows: str, _: Quantized) -> list[Quantized]:
    """The count as an output: int64, int32, float32, float64 or bool; a scalar or one element."""
    count = _count(net, rows)
    match net.integer(0, 4):
        case 0:
            net.result(count)
        case 1 | 2:
            to = net.choice([TensorProto.FLOAT, TensorProto.INT32, TensorProto.DOUBLE, TensorProto.FLOAT16])
            net.result(net.cast(count, to))
        case 3:
            net.result(net.host("Greater", [count, net.ints(net.integer(0, 20))]))
        case _:
            net.result(net.host("Add", [net.host("Mul", [count, net.ints([2, 3])]), net.ints([1])]))
    return []


def _rows_output(net: HostTensors, rows: str, _: Quantized) -> list[Quantized]:
    """The tensor itself, or in a shape made of its count."""
    if net.chance(50):
        net.result(rows)
        return []
    count = net.unsqueezed(_count(net, rows), [0])
    net.result(net.host("Reshape", [rows, net.host("Concat", [net.ints([1]), count, net.ints([-1])], axis=0)]))
    return []


def _mean(net: HostTensors, rows: str, x: Quantized) -> list[Quantized]:
    """Sum by count: as an output, or as a factor or summand of x."""
    total = net.reduced("ReduceSum", net.float_of(rows), [0], 0)
    mean = net.host("Div", [total, net.float_of(_count(net, rows))])
    if net.chance(40):
        net.result(mean)
        return []
    one = mean if not net.values(mean).ndim else net.reduced("ReduceMean", mean, [0], 0)
    return [net.back(net.host(net.choice(["Add", "Mul", "Sub"]), [net.real(x), one]))]


def _weighted_by_count(net: HostTensors, rows: str, x: Quantized) -> list[Quantized]:
    """The count as a factor of x."""
    share = net.host("Div", [net.float_of(_count(net, rows)), net.floats(float(x.values.size))])
    return [net.back(net.host("Mul", [net.real(x), share]))]


def _counted_output(net: HostTensors, rows: str, _: Quantized) -> list[Quantized]:
    """A tensor made from the count alone: Range, ConstantOfShape, Expand, OneHot, EyeLike."""
    count = _count(net, rows)
    require(0 < int(net.values(count)) <= 64)
    vector = net.unsqueezed(count, [0])
    match net.integer(0, 3):
        case 0:
            y = net.host("Range", [net.ints(0), count, net.ints(net.integer(1, 2))])
        case 1:
            y = net.host("ConstantOfShape", [net.host("Concat", [vector, net.ints([2])], axis=0)])
        case 2:
            y = net.host("Expand", [net.floats([[1.5, -2]]), net.host("Concat", [vector, net.ints([2])], axis=0)])
        case _:
            square = net.host("Concat", [vector, vector], axis=0)
            y = net.host("EyeLike", [net.host("ConstantOfShape", [square])])
    net.result(y)
    return []


def _sliced_by_count(net: HostTensors, rows: str, x: Quantized) -> list[Quantized]:
    """As many elements of x as the count says; or its best ones."""
    flat = net.flat(net.real(x))
    count = net.host("Min", [_count(net, rows), net.ints(x.values.size)])
    vector = net.unsqueezed(count, [0])
    if net.chance(50):
        net.result(net.host("Slice", [flat, net.ints([0]), vector]))
    else:
        values, places = net.hosts("TopK", [flat, vector], 2, axis=0)
        net.result(net.choice([values, places]))
    return []


def _reduced(net: HostTensors, rows: str, x: Quantized) -> list[Quantized]:
    """The maximum, minimum, mean or sum over the rows: static again."""
    op = net.choice(["ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum"])
    one = net.reduced(op, net.float_of(rows), [0], net.integer(0, 1))
    if net.values(one).ndim == 2:
        return [net.back(one)]
    if net.values(one).ndim and net.shape(one)[0] > 1:
        return [net.back(net.unsqueezed(one, [0]))]
    return [net.back(net.host("Add", [net.real(x), one]))]


def _top_again(net: HostTensors, rows: str, _: Quantized) -> list[Quantized]:
    """The k largest rows, where k is stored: static again. On other data there may be too few."""
    flat = net.flat(net.float_of(rows))
    k = net.integer(1, max(1, net.values(flat).size // 2))
    values, places = net.hosts("TopK", [flat, net.ints([k])], 2, axis=0)
    if net.chance(30):
        net.result(places)
    return [net.back(net.shaped(values, [1, k]))]


def _padded(net: HostTensors, rows: str, _: Quantized) -> list[Quantized]:
    """Padded, or cut, to a stored length: static again."""
    flat = net.flat(net.float_of(rows))
    length = net.integer(1, 2 * net.values(flat).size)
    size = net.unsqueezed(_count(net, flat), [0])
    missing = net.host("Max", [net.host("Sub", [net.ints([length]), size]), net.ints([0])])
    y = net.host("Pad", [flat, net.host("Concat", [net.ints([0]), missing], axis=0), net.floats(0.5)])
    y = net.host("Slice", [y, net.ints([0]), net.ints([length])])
    return [net.back(net.shaped(y, [1, length]))]


def _layer(net: HostTensors, rows: str, _: Quantized) -> list[Quantized]:
    """A quantized layer over as many rows as there are, and the maximum of its results: static again."""
    real = net.float_of(rows)
    if net.values(real).ndim == 1:
        real = net.unsqueezed(real, [1])
    width = net.shape(real)[1]
    first = net.back(real)
    outputs = net.integer(1, 6)
    if net.chance(50):
        y = net.host("MatMul", [net.real(first), net.weights((width, outputs), 1)[0]])
    else:
        images = net.shaped(net.real(first), [-1, width, 1, 1])
        y = net.host("Conv", [images, net.weights((outputs, width, 1, 1), 0)[0]])
    scale, zero_point = net.parameters(net.values(y))
    small = net.rounded(net.writer.quantize(y, scale, zero_point), net.values(y), scale, zero_point)
    if net.chance(30):
        net.result(net.known(small))
    return [net.back(net.reduced("ReduceMax", net.real(small), [0], 1))]


def _on_zeros_impossible(net: HostTensors, rows: str, _: Quantized) -> list[Quantized]:
    """What cannot run on other data, as zeros: an index that is out of range, a shape that does not fit."""
    count = _count(net, rows)
    match net.integer(0, 2):
        case 0:
            away = net.host("Sub", [count, net.ints(int(net.values(count)) - 1)])
            net.result(net.host("Gather", [net.floats([0.5, 1.5, 2.5, 3.5]), away], axis=0))
        case 1:
            k = net.integer(1, net.shape(rows)[0])
            values, places = net.hosts("TopK", [net.flat(net.float_of(rows)), net.ints([k])], 2, axis=0)
            net.result(net.choice([values, places]))
        case _:
            size = net.values(rows).size
            net.result(net.shaped(rows, [1, size]))
    return []


USES: dict[str, Callable[[HostTensors, str, Quantized], list[Quantized]]] = {
    "count_output": _count_output, "rows_output": _rows_output, "mean": _mean, "weighted": _weighted_by_count,
    "counted_output": _counted_output, "sliced": _sliced_by_count, "reduced": _reduced, "top": _top_again,
    "padded": _padded, "layer": _layer, "impossible": _on_zeros_impossible,
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


def _count(net: HostTensors, rows: str) -> str:
    """The first dimension, from Shape, by Size, or by counting: an int64 scalar."""
    match net.integer(0, 3):
        case 0 if net.values(rows).ndim == 1:
            return net.host("Size", [rows])
        case 1:
            ones = net.host("ConstantOfShape", [shape_of(net, rows, 0, 1)],
                            value=helper.make_tensor("v", TensorProto.INT64, [1], [1]))  # fmt: skip
            return net.reduced("ReduceSum", ones, [0], 0)
        case _:
            return dim_of(net, rows, 0)
