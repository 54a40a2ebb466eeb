"""Random uses of tensors whose shapes depend on data, and of their counts: `USES`.

`count_chain` makes such a tensor (sources.py), takes its count in one of several ways, and uses both: as
outputs, in arithmetic, and back to a shape that does not depend on data, so that the accelerator goes on.
"""

from collections.abc import Callable, Sequence

from onnx import TensorProto, helper

from systolith.sim.stimulus.draws import require
from systolith.sim.stimulus.host_parts.shapes import dim_of, shape_of
from systolith.sim.stimulus.host_parts.sources import SOURCES
from systolith.sim.stimulus.host_parts.tensors import HostTensors
from systolith.sim.stimulus.tensors import Quantized

__all__ = ["USES", "count_chain"]

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
