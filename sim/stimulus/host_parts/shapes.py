"""Random chains that compute with shapes, as exporters write them: from Shape to what reads a shape, all static."""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper

from systolith.sim.stimulus.draws import divisor, require
from systolith.sim.stimulus.host_parts.tensors import HostTensors
from systolith.sim.stimulus.tensors import Quantized

__all__ = ["dim_of", "shape_chain", "shape_of"]


def shape_chain(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """One operator whose shape, sizes, bounds or values come from the shape of a tensor."""
    use = net.choice([_reshape, _expand, _resize, _range, _filled, _slice, _tile, _size])
    return [net.back(use(net, x), x if net.chance(40) else None)]


def shape_of(net: HostTensors, name: str, low: int = 0, high: int | None = None) -> str:
    """Dimensions `low` to `high` of a tensor, as int64: by attributes of Shape, a Slice or a Gather."""
    rank = net.values(name).ndim
    end = rank if high is None else high
    if net.writer.opset >= 15 and net.chance(50):
        bounds = {"start": net.choice([low, low - rank])} if low or net.chance(50) else {}
        return net.host("Shape", [name], **bounds, **({"end": end - rank if end < rank else end} if end < rank else {}))
    shape = net.host("Shape", [name])
    if (low, end) == (0, rank):
        return shape
    if net.chance(50):
        return net.host("Slice", [shape, net.ints([low]), net.ints([end]), net.ints([0])])
    return net.host("Gather", [shape, net.ints(list(range(low, end)))], axis=0)


def dim_of(net: HostTensors, name: str, axis: int) -> str:
    """One dimension of a tensor, an int64 scalar, in one of the ways in which exporters take it."""
    match net.integer(0, 2):
        case 0:
            return net.host("Gather", [net.host("Shape", [name]), net.ints(axis)], axis=0)
        case 1:
            return net.host("Squeeze", [shape_of(net, name, axis, axis + 1), net.ints([0])])
        case _:
            last = net.host("Gather", [net.host("Shape", [name]), net.ints([axis - net.values(name).ndim])])
            return net.host("ReduceProd", [last], keepdims=0)


def _reshape(net: HostTensors, x: Quantized) -> str:
    """[batch, the product of the rest], and perhaps back."""
    real = net.real(x)
    batch = net.unsqueezed(dim_of(net, real, 0), [0])
    if net.chance(50):
        rest = net.ints([-1])
    else:
        rest = net.host("ReduceProd", [shape_of(net, real, 1)], keepdims=1)
    y = net.host("Reshape", [real, net.host("Concat", [batch, rest], axis=0)])
    return net.host("Reshape", [y, shape_of(net, real)]) if net.chance(50) else y


def _expand(net: HostTensors, x: Quantized) -> str:
    """A row that is expanded to the tensor's shape, and added."""
    real = net.real(x)
    row = net.floats(net.rng.normal(0, float(np.std(x.real)) + 0.1, x.shape[-1]))
    return net.host("Add", [real, net.host("Expand", [row, shape_of(net, real)])])


def _resize(net: HostTensors, x: Quantized) -> str:
    """Sizes of the tensor, several times."""
    require(len(x.shape) == 4)
    real = net.real(x)
    larger = net.host("Mul", [shape_of(net, real, 2, 4), net.ints([net.integer(1, 3), net.integer(1, 2)])])
    sizes = net.host("Concat", [shape_of(net, real, 0, 2), larger], axis=0)
    mode = net.choice(["nearest", "nearest", "linear"])
    return net.host("Resize", [real, "", "", sizes], mode=mode, coordinate_transformation_mode="asymmetric")


def _range(net: HostTensors, x: Quantized) -> str:
    """Positions along the last axis, added."""
    real = net.real(x)
    positions = net.host("Range", [net.ints(0), dim_of(net, real, len(x.shape) - 1), net.ints(1)])
    step = net.floats(float(np.std(x.real)) / x.shape[-1] + 0.01)
    return net.host("Add", [real, net.host("Mul", [net.cast(positions, TensorProto.FLOAT), step])])


def _filled(net: HostTensors, x: Quantized) -> str:
    """A constant of the tensor's shape."""
    real = net.real(x)
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [float(net.rng.uniform(-1.5, 1.5))])
    y = net.host("ConstantOfShape", [shape_of(net, real)], value=value)
    return net.host(net.choice(["Add", "Mul", "Max"]), [real, y])


def _slice(net: HostTensors, x: Quantized) -> str:
    """Half of an axis, or less."""
    real, axis = net.real(x), net.integer(0, len(x.shape) - 1)
    require(x.shape[axis] > 1)
    half = net.unsqueezed(net.host("Div", [dim_of(net, real, axis), net.ints(net.integer(1, 3))]), [0])
    require(bool(net.values(half)[0] > 0))
    first = net.chance(50)
    ends = [net.ints([0]), half] if first else [half, shape_of(net, real, axis, axis + 1)]
    require(first or bool(net.values(half)[0] < x.shape[axis]))
    return net.host("Slice", [real, *ends, net.ints([axis])])


def _tile(net: HostTensors, x: Quantized) -> str:
    """As many copies as the quotient of two shapes."""
    real, axis = net.real(x), len(x.shape) - 1
    wanted = np.array(x.shape)
    wanted[axis] *= net.integer(1, 3)
    repeats = net.host("Div", [net.ints(wanted), shape_of(net, real)])
    return net.host("Tile", [real, repeats])


def _size(net: HostTensors, x: Quantized) -> str:
    """The mean as a sum by the number of elements; or a part of the tensor by a number of groups."""
    real = net.real(x)
    if net.chance(50):
        total = net.reduced("ReduceSum", real, list(range(len(x.shape))))
        mean = net.host("Div", [total, net.cast(net.host("Size", [real]), TensorProto.FLOAT)])
        return net.host("Sub", [real, mean])
    require(len(x.shape) > 2)
    groups = divisor(net, x.shape[1])
    parts = net.unsqueezed(net.host("Div", [dim_of(net, real, 1), net.ints(groups)]), [0])
    pieces = [shape_of(net, real, 0, 1), net.ints([groups]), parts, shape_of(net, real, 2)]
    y = net.host("Reshape", [real, net.host("Concat", pieces, axis=0)])
    y = net.reduced("ReduceMean", y, [2], 1)
    return net.host("Reshape", [y, net.host("Concat", [pieces[0], pieces[1], pieces[3]], axis=0)])
