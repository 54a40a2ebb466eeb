"""Random float islands: operators that run on the host alone, between quantized tensors of static shapes.

`ISLANDS` has them by name. Each takes the real tensor x and gives a real one; it raises `Impossible` where it does not
fit.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto

from systolith.sim.stimulus.draws import numbers, require
from systolith.sim.stimulus.host_parts.tensors import HostTensors
from systolith.sim.stimulus.tensors import Quantized

__all__ = ["ISLANDS", "ceil_pool", "island"]


def island(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """One or two operators in float32; the result is quantized again, and sometimes an output as well."""
    name = net.real(x)
    for _node in range(net.integer(1, 2)):
        name = net.float_of(net.choice(list(ISLANDS.values()))(net, name))
    if net.chance(20):
        net.result(name)
    require(net.values(name).ndim > 0)
    return [net.back(name)]


def ceil_pool(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Average pools with ceil_mode, count_include_pad and padding, the kinds that kernels get wrong."""
    return [net.back(_average_pool(net, net.real(x)), None)]


def _rank(net: HostTensors, x: str, *ranks: int) -> tuple[int, ...]:
    shape = net.shape(x)
    require(len(shape) in ranks)
    return shape


def _weights(net: HostTensors, *shape: int) -> str:
    return net.floats(net.rng.normal(0, 0.5, shape))


def _windows(net: HostTensors, spatial: int, ceil: bool = True) -> dict[str, Any]:
    kernel = numbers(net, spatial, 1, 3)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": numbers(net, spatial, 1, 3)}
    attributes["pads"] = [net.integer(0, k - 1) for k in (*kernel, *kernel)]
    if ceil:
        attributes["ceil_mode"] = net.integer(0, 1)
    return attributes


def _average_pool(net: HostTensors, x: str) -> str:
    spatial = len(_rank(net, x, 3, 4)) - 2
    attributes = _windows(net, spatial) | {"ceil_mode": 1, "count_include_pad": net.choice([1, 1, 0])}
    return net.host("AveragePool", [x], **attributes)


def _lp_pool(net: HostTensors, x: str) -> str:
    spatial = len(_rank(net, x, 3, 4)) - 2
    return net.host("LpPool", [x], p=net.integer(1, 3), **_windows(net, spatial, net.writer.opset >= 18))


def _unpool(net: HostTensors, x: str) -> str:
    """MaxPool with its indices, and MaxUnpool."""
    _, _, height, width = _rank(net, x, 4)
    require(min(height, width) > 1)
    windows = {"kernel_shape": [2, 2], "strides": [2, 2]}
    values, places = net.hosts("MaxPool", [x], 2, **windows)
    if net.chance(40):
        net.result(places)
    return net.host("MaxUnpool", [values, places], **windows)


def _normalization(net: HostTensors, x: str) -> str:
    shape = _rank(net, x, 2, 3, 4)
    match net.integer(0, 5):
        case 0:
            return net.host("LRN", [x], size=net.choice([1, 3, 5]), alpha=0.01, beta=0.6, bias=1.2)
        case 1:
            return net.host("InstanceNormalization", [x, _weights(net, shape[1]), _weights(net, shape[1])])
        case 2:
            require(net.writer.opset >= 17)
            axis = net.integer(1, len(shape) - 1)
            operands = [x, _weights(net, *shape[axis:])]
            return net.host("LayerNormalization", [*operands, *([_weights(net, *shape[axis:])] * net.integer(0, 1))],
                            axis=axis, epsilon=1e-3)  # fmt: skip
        case 3:
            return net.host("LpNormalization", [net.host("Add", [x, net.floats(0.01)])], axis=1, p=net.integer(1, 2))
        case 4:
            return net.host("MeanVarianceNormalization", [x], axes=[0, *range(2, len(shape))])
        case _:
            return net.host("GlobalLpPool", [x], p=2)


def _softmax(net: HostTensors, x: str) -> str:
    axis = net.integer(1, net.values(x).ndim - 1) if net.values(x).ndim > 1 else 0
    return net.host(net.choice(["Softmax", "LogSoftmax", "Hardmax"]), [x], axis=net.choice([axis, -1]))


def _einsum(net: HostTensors, x: str) -> str:
    shape = _rank(net, x, 2, 3, 4)
    letters = "abcd"[: len(shape)]
    match net.integer(0, 2):
        case 0:
            return net.host(
                "Einsum", [x, _weights(net, shape[-1], 3)], equation=f"{letters},{letters[-1]}z->{letters[:-1]}z"
            )
        case 1:
            return net.host("Einsum", [x], equation=f"{letters}->{letters[::-1]}")
        case _:
            return net.host("Einsum", [x, x], equation=f"{letters},{letters}->{letters[:2]}")


def _conv(net: HostTensors, x: str) -> str:
    """Convolutions in float32: of 1 to 3 dimensions, or transposed."""
    batch, channels, *size = _rank(net, x, 2, 3, 4)
    volume = len(size) == 2 and net.chance(50)
    size = [1, *size] if volume else size or [1]
    x = net.shaped(x, [batch, channels, *size])
    kernel = [net.integer(1, min(3, n)) for n in size]
    bias = [_weights(net, 4)] * net.integer(0, 1)
    if volume or net.chance(60):
        pads = [net.integer(0, k - 1) for k in (*kernel, *kernel)]
        y = net.host("Conv", [x, _weights(net, 4, channels, *kernel), *bias], pads=pads)
    else:
        strides = numbers(net, len(kernel), 1, 2)
        y = net.host("ConvTranspose", [x, _weights(net, channels, 4, *kernel), *bias], strides=strides)
    return net.shaped(y, [batch, 4, -1, net.shape(y)[-1]]) if volume else y


def _grid(net: HostTensors, x: str) -> str:
    batch, *_ = _rank(net, x, 4)
    require(net.writer.opset >= 16)
    grid = net.floats(net.rng.uniform(-1.1, 1.1, (batch, 3, 4, 2)))
    mode = net.choice(["bilinear", "nearest"] if net.writer.opset < 20 else ["linear", "nearest"])
    return net.host("GridSample", [x, grid], mode=mode, padding_mode=net.choice(["zeros", "border", "reflection"]))


def _recurrent(net: HostTensors, x: str) -> str:
    """LSTM, GRU or RNN over the first axis; some inputs are left out."""
    shape = _rank(net, x, 2, 3)
    x = net.unsqueezed(x, [1]) if len(shape) == 2 else x
    length, batch, size = net.shape(x)
    op, gates = net.choice([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    ways, hidden = net.integer(1, 2), net.integer(1, 5)
    operands = [x, _weights(net, ways, gates * hidden, size), _weights(net, ways, gates * hidden, hidden)]
    if net.chance(40):
        operands += ["", "", _weights(net, ways, batch, hidden)]
    elif net.chance(50):
        operands += [_weights(net, ways, 2 * gates * hidden)]
    direction = "bidirectional" if ways == 2 else net.choice(["forward", "reverse"])
    y, last = net.hosts(op, operands, 2, hidden_size=hidden, direction=direction)
    if net.chance(30):
        net.result(last)
    return (
        net.shaped(y, [length, ways * batch * hidden]) if batch == 1 else net.shaped(y, [length, batch, ways * hidden])
    )


def _cumulative(net: HostTensors, x: str) -> str:
    axis = net.ints(net.integer(0, net.values(x).ndim - 1))
    return net.host("CumSum", [x, axis], exclusive=net.integer(0, 1), reverse=net.integer(0, 1))


def _argmax(net: HostTensors, x: str) -> str:
    """Places of the largest: as an output, as numbers, or as indices into a table."""
    axis = net.integer(0, net.values(x).ndim - 1)
    op = net.choice(["ArgMax", "ArgMin"])
    places = net.host(op, [x], axis=axis, keepdims=1, select_last_index=net.integer(0, 1))
    if net.chance(40):
        net.result(places)
    if net.chance(50):
        return net.cast(places, TensorProto.FLOAT)
    return net.host("Gather", [_weights(net, net.shape(x)[axis]), places], axis=0)


def _gather(net: HostTensors, x: str) -> str:
    """Rows by an input of indices."""
    axis = net.values(x).ndim - 1
    size = net.shape(x)[axis]
    dtype = net.choice([np.int64, np.int32])
    places = net.free_input(net.rng.integers(-size, size, net.integer(1, 4)).astype(dtype))
    return net.host("Gather", [x, places], axis=axis)


def _scatter(net: HostTensors, x: str) -> str:
    """Some elements replaced: ScatterND or ScatterElements."""
    shape = net.shape(x)
    if net.chance(50):
        index = net.ints([[net.integer(0, n - 1) for n in shape[:1]]])
        return net.host("ScatterND", [x, index, _weights(net, 1, *shape[1:])])
    count = net.integer(1, shape[-1])
    places = net.ints(np.broadcast_to(net.rng.permutation(shape[-1])[:count], (*shape[:-1], count)))
    return net.host("ScatterElements", [x, places, _weights(net, *shape[:-1], count)], axis=-1)


def _types(net: HostTensors, x: str) -> str:
    """Arithmetic in other types: float16, float64, int32, int64."""
    to = net.choice([TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64])
    y = net.cast(net.host("Mul", [x, net.floats(4)]), to)
    two = net.constant(np.asarray(3, net.values(y).dtype))
    if to != TensorProto.FLOAT16:
        y = net.host(net.choice(["Add", "Mul", "Sub"]), [y, two])
    if net.chance(70):
        net.result(y)
    return net.cast(y, TensorProto.FLOAT)


def _logic(net: HostTensors, x: str) -> str:
    """Comparisons, bool logic and Where."""
    large = net.host("Greater", [x, net.floats(float(np.mean(net.values(x))))])
    other = net.host("Less", [x, net.floats(float(np.max(net.values(x)) * 0.7))])
    both = net.host(net.choice(["And", "Or", "Xor"]), [large, net.host("Not", [other])])
    if net.chance(25):
        net.result(both)
    return net.host("Where", [both, x, net.host("Mul", [x, net.floats(-0.25)])])


def _reduction(net: HostTensors, x: str) -> str:
    op = net.choice(["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd"])
    axis = net.integer(1, net.values(x).ndim - 1) if net.values(x).ndim > 1 else 0
    y = net.host("Tanh", [x]) if op in ("ReduceProd", "ReduceLogSumExp") else x
    return net.reduced(op, y, [axis])


def _moves(net: HostTensors, x: str) -> str:
    """Operators that move values in ways that the accelerator has not."""
    shape = net.shape(x)
    match net.integer(0, 4):
        case 0:
            return net.host("Trilu", [x], upper=net.integer(0, 1))
        case 1:
            require(len(shape) > 1)
            lengths = net.ints(net.rng.integers(1, shape[0] + 1, shape[1]))
            return net.host("ReverseSequence", [x, lengths], time_axis=0, batch_axis=1)
        case 2:
            places = net.rng.integers(0, shape[-1], shape)
            return net.host("GatherElements", [x, net.ints(places)], axis=-1)
        case 3:
            return net.host(
                "Pad", [x, net.ints([0] * (len(shape) - 1) + [1] + [0] * (len(shape) - 1) + [0])], mode="edge"
            )
        case _:
            y, places = net.hosts("TopK", [x, net.ints([net.integer(1, shape[-1])])], 2, axis=-1)
            if net.chance(50):
                net.result(places)
            return y


def _dynamic(net: HostTensors, x: str) -> str:
    """Quantized by what it holds, and multiplied in integers."""
    require(net.values(x).ndim >= 2)
    y, scale, zero_point = net.hosts("DynamicQuantizeLinear", [x], 3)
    weights = net.constant(net.rng.integers(-50, 50, (net.shape(x)[-1], 3)).astype(np.int8))
    y = net.cast(net.host("MatMulInteger", [y, weights, zero_point]), TensorProto.FLOAT)
    return net.host("Mul", [y, net.host("Mul", [scale, net.floats(0.01)])])


def _wide(net: HostTensors, x: str) -> str:
    """Quantized to 16 bits, which the accelerator has not."""
    require(net.writer.opset >= 21)
    scale = net.floats(float(np.abs(net.values(x)).max() / 30000 + 1e-6))
    zero_point = net.constant(np.asarray(0, net.choice([np.int16, np.uint16])))
    return net.host("DequantizeLinear", [net.host("QuantizeLinear", [x, scale, zero_point]), scale, zero_point])


def _matmul(net: HostTensors, x: str) -> str:
    """A float matrix product of a tensor and its own transpose, or of float weights."""
    shape = _rank(net, x, 2, 3, 4)
    require(prod(shape) < 2000)
    if net.chance(50):
        return net.host("MatMul", [x, _weights(net, shape[-1], 3)])
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    return net.host("MatMul", [x, net.host("Transpose", [x], perm=order)])


def _scalar(net: HostTensors, x: str) -> str:
    """A statistic without dimensions, which is an output, and a factor."""
    y = net.host(net.choice(["ReduceMean", "ReduceMax", "ReduceSum"]), [x], keepdims=0)
    if net.chance(70):
        net.result(net.cast(y, net.choice([TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])))
    return net.host("Sub", [x, y])


ISLANDS: dict[str, Callable[[HostTensors, str], str]] = {
    "average_pool": _average_pool, "lp_pool": _lp_pool, "unpool": _unpool, "normalization": _normalization,
    "softmax": _softmax, "einsum": _einsum, "conv": _conv, "grid": _grid, "recurrent": _recurrent,
    "cumulative": _cumulative, "argmax": _argmax, "gather": _gather, "scatter": _scatter, "types": _types,
    "logic": _logic, "reduction": _reduction, "moves": _moves, "dynamic": _dynamic, "wide": _wide, "matmul": _matmul,
    "scalar": _scalar,
}  # fmt: skip
"""Operators by name."""
