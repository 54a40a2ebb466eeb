"""Random operators of every kind that runs on the accelerator, each with random attributes, on a random tensor.

`OPERATORS` has them by name. Each adds nodes to the model and gives the tensors that it made; it raises `Impossible`
where it does not fit its tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from systolith.sim.stimulus import moves
from systolith.sim.stimulus.draws import divisor, moved, numbers, require, without
from systolith.sim.stimulus.tensors import Quantized, RandomTensors

__all__ = ["OPERATORS"]

TOTAL = (
    ("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Sigmoid", {}), ("Tanh", {}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}), ("HardSwish", {}), ("Elu", {"alpha": 0.7}), ("Selu", {}),
    ("Celu", {"alpha": 1.5}), ("Softplus", {}), ("Softsign", {}), ("Abs", {}), ("Neg", {}), ("Erf", {}),
    ("Sin", {}), ("Cos", {}), ("Atan", {}), ("Floor", {}), ("Ceil", {}), ("Round", {}), ("Sign", {}),
    ("ThresholdedRelu", {"alpha": 0.6}), ("Shrink", {"lambd": 0.3, "bias": 0.1}), ("Mish", {}), ("Gelu", {}),
)  # fmt: skip
"""Functions that have a value everywhere; some are not in every opset."""
LARGEST_RATIO = 4000
"""Scale of an input by that of the output, of additions: ONNX Runtime's float32 sums lose whole steps above 32768."""
MOST = 200
"""Input's scale by output's, of averages: ONNX Runtime refuses 256 and more."""


def conv(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Convolutions of one and two dimensions: grouped, depthwise, strided, dilated, padded."""
    require(len(x.shape) in (3, 4))
    spatial, channels = len(x.shape) - 2, x.shape[1]
    groups = net.choice([1, 1, channels, divisor(net, channels)])
    kernel = [net.integer(1, 3 if net.chance(80) else 5) for _ in range(spatial)]
    attributes: dict[str, Any] = {"group": groups, "strides": numbers(net, spatial, 1, 2)}
    pad = net.choice(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if pad != "NOTSET":
        attributes["auto_pad"] = pad
    else:
        attributes["dilations"] = numbers(net, spatial, 1, 2) if net.chance(30) else [1] * spatial
        attributes["pads"] = [net.integer(0, k) for k in (*kernel, *kernel)]
    require(_fits_windows(x, attributes | {"kernel_shape": kernel}))
    outputs = groups * net.integer(1, max(1, 12 // groups))
    return _weighted(net, "Conv", x, (outputs, channels // groups, *kernel), 0, outputs, attributes)


def conv_transpose(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Transposed convolutions."""
    require(len(x.shape) in (3, 4))
    spatial, channels = len(x.shape) - 2, x.shape[1]
    groups = net.choice([1, 1, channels, divisor(net, channels)])
    kernel, strides = numbers(net, spatial, 1, 4), numbers(net, spatial, 1, 3)
    attributes: dict[str, Any] = {"group": groups, "strides": strides}
    attributes["pads"] = [net.integer(0, min(2, k - 1)) for k in (*kernel, *kernel)]
    if net.chance(30):
        attributes["output_padding"] = [net.integer(0, s - 1) for s in strides]
    if net.chance(20):
        attributes["dilations"] = numbers(net, spatial, 1, 2)
    each = net.integer(1, max(1, 8 // groups))
    return _weighted(net, "ConvTranspose", x, (channels, each, *kernel), 1, each * groups, attributes, groups == 1)


def matmul(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Products with constant matrices."""
    require(len(x.shape) in (2, 3))
    outputs = net.integer(1, 20)
    if net.chance(15):
        return _weighted(net, "MatMul", x, (outputs, x.shape[-2]), 0, outputs, {})
    return _weighted(net, "MatMul", x, (x.shape[-1], outputs), 1, outputs, {})


def gemm(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Dense layers."""
    require(len(x.shape) == 2)
    outputs, transposed = net.integer(1, 20), net.integer(0, 1)
    turned = int(net.chance(15))
    features = x.shape[1 - turned]
    shape = (outputs, features) if transposed else (features, outputs)
    attributes: dict[str, Any] = {"transA": turned, "transB": transposed}
    if net.chance(20):
        attributes |= {"alpha": net.choice([0.5, -1.0, 0.3]), "beta": net.choice([1.0, 2.0, -0.7])}
    return _weighted(net, "Gemm", x, shape, 1 - transposed, outputs, attributes)


def combine(net: RandomTensors, x: Quantized, others: Sequence[Quantized]) -> list[Quantized]:
    """Two tensors added, subtracted or multiplied, of one shape or one broadcast."""
    other, made = _partner(net, x, others)
    operands = [net.real(x), net.real(other)]
    y = net.node(net.choice(["Add", "Mul", "Sub"]), operands[::-1] if net.chance(40) else operands)
    return [*made, net.quantized(_limited(net, y), least=float(max(x.scale, other.scale)) / LARGEST_RATIO)]


def with_constant(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """A tensor and one constant, or one for each channel."""
    per_channel = len(x.shape) == 4 and net.chance(50)
    shape = (x.shape[1], 1, 1) if per_channel else ()
    values = net.rng.uniform(0.2, 2, shape) * net.rng.choice([-1, 1], shape)
    if net.chance(50):
        y = net.constant(np.asarray(values, np.float32))
    else:
        steps, scale = np.asarray(np.rint(values * 60), np.int8), np.float32(1 / 60)
        y = net.writer.dequantize(net.writer.constant(steps), scale, np.int8(0))
        net.reals[y] = steps * scale
    op = net.choice(["Add", "Mul", "Sub", "Div", "Max", "Min", "PRelu"])
    operands = [net.real(x), y]
    return [net.quantized(net.node(op, operands[::-1] if op not in ("Div", "PRelu") and net.chance(30) else operands))]


def norm(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """A batch normalization that nothing absorbs."""
    require(len(x.shape) in (3, 4))
    return [net.quantized(_normalized(net, net.real(x), x.shape[1]))]


def unary(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Functions of one tensor, alone, in chains, or as exporters spell them."""
    real = net.real(x)
    match net.integer(0, 5):
        case 0 | 1 | 2:
            y = _function(net, real)
        case 3:
            y = _function(net, _function(net, real))
        case 4:
            y = net.node("Mul", [real, net.node("Sigmoid", [real])])
        case _:
            three, six = (net.constant(np.float32(value)) for value in (3, 6))
            clipped = net.node("Clip", [net.node("Add", [real, three]), net.constant(np.float32(0)), six])
            y = net.node("Div", [net.node("Mul", [real, clipped]), six])
    return [net.quantized(y)]


def limits(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """A Clip or Relu alone."""
    bounds = [net.constant(np.float32(np.quantile(x.real, share) + 0.01 * share)) for share in (0.1, 0.9)]
    y = net.node("Relu", [net.real(x)]) if net.chance(40) else net.node("Clip", [net.real(x), *bounds])
    return [net.quantized(y, x if net.chance(50) else None)]


def max_pool(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Maximum over windows."""
    attributes = _windows(net, x)
    if net.chance(20):
        attributes["dilations"] = numbers(net, len(x.shape) - 2, 1, 2)
        require(_fits_windows(x, attributes))
    return [moved(net, x, "MaxPool", [], **attributes)]


def average_pool(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Mean over windows."""
    attributes = _windows(net, x) | {"count_include_pad": net.integer(0, 1)}
    return [net.quantized(net.node("AveragePool", [net.real(x)], **attributes), least=float(x.scale) / MOST)]


def global_pool(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Mean or maximum over height and width."""
    require(len(x.shape) == 4)
    match net.integer(0, 3):
        case 0:
            return [net.quantized(net.node("GlobalAveragePool", [net.real(x)]), least=float(x.scale) / MOST)]
        case 1:
            return [net.quantized(net.node("GlobalMaxPool", [net.real(x)]), x)]
        case kind:
            op, keep = ("ReduceMean", "ReduceMax")[kind - 2], net.integer(0, 1)
            if net.writer.opset >= 18:
                y = net.node(op, [net.real(x), net.constant(np.array([2, 3]))], keepdims=keep)
            else:
                y = net.node(op, [net.real(x)], axes=[2, 3], keepdims=keep)
            return [net.quantized(y, x if op == "ReduceMax" else None)]


def qlinear(net: RandomTensors, x: Quantized, others: Sequence[Quantized]) -> list[Quantized]:
    """Operators of 8-bit tensors, as ONNX Runtime's quantizer writes them without QDQ."""
    op = net.choice(["Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"])
    operands, made, attributes, least = [x], [], {}, 0.0
    match op:
        case "Add" | "Mul":
            other, made = _partner(net, x, others)
            operands.append(other)
            least = float(max(x.scale, other.scale)) / LARGEST_RATIO
        case "Concat":
            axis = attributes["axis"] = net.integer(1, len(x.shape) - 1)
            alike = [y for y in others if without(y.shape, axis) == without(x.shape, axis)]
            operands.append(net.choice([x, *alike]))
        case "LeakyRelu":
            attributes["alpha"] = 0.3
        case "Sigmoid":
            pass
        case _:
            require(len(x.shape) == 4)
            attributes |= _windows(net, x) | {"count_include_pad": net.integer(0, 1)} if op == "AveragePool" else {}
            least = float(x.scale) / MOST
    values = net.estimated(op, operands, **attributes)
    scale, zero_point = net.parameters(values)
    y = net.rounded("", values, max(scale, np.float32(least)), zero_point)
    stored = [name for operand in operands for name in (operand.name, *net.stored(operand))]
    inputs = [*net.stored(y), *stored] if op == "Concat" else [*stored, *net.stored(y)]
    return [*made, net.integers(f"QLinear{op}", inputs, values, y, **attributes)]


def softmax(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """One for the host."""
    return [net.quantized(net.node("Softmax", [net.real(x)], axis=1))]


Operator = Callable[[RandomTensors, Quantized, Sequence[Quantized]], list[Quantized]]
OPERATORS: dict[str, tuple[int, Operator]] = {
    "conv": (8, conv), "combine": (5, combine), "unary": (3, unary), "max_pool": (2, max_pool),
    "average_pool": (2, average_pool), "concat": (3, moves.concat), "matmul": (3, matmul), "gemm": (3, gemm),
    "conv_transpose": (2, conv_transpose), "with_constant": (2, with_constant), "norm": (1, norm),
    "limits": (2, limits), "global_pool": (2, global_pool), "split": (2, moves.split), "slice": (1, moves.slice_),
    "gather": (1, moves.gather), "pad": (1, moves.pad), "resize": (1, moves.resize), "shuffle": (1, moves.shuffle),
    "flatten": (2, moves.flatten), "squeeze": (1, moves.squeeze), "transpose": (1, moves.transpose),
    "softmax": (1, softmax), "qlinear": (4, qlinear),
}  # fmt: skip
"""Operators by name, with how often each is drawn."""


def _weighted(
    net: RandomTensors, op: str, x: Quantized, shape: tuple[int, ...], axis: int, outputs: int,
    attributes: dict[str, Any], per_channel: bool = True,
) -> list[Quantized]:  # fmt: skip
    """A layer with weights, perhaps a bias, perhaps limits or a normalization. Those of a MatMul whose outputs are
    their first axis stand on its left."""
    weights, scale = net.weights(shape, axis, per_channel)
    left = op == "MatMul" and axis == 0
    operands = [weights, net.real(x)] if left else [net.real(x), weights]
    y = net.node(op, operands, **attributes)
    if net.chance(60) and not left:
        size = float(np.std(net.reals[y]))
        if op == "MatMul":
            y = net.node("Add", [y, net.bias(outputs, x, scale, size)])
        else:
            net.writer.nodes.pop()  # It only told how large a bias is.
            y = net.node(op, [*operands, net.bias(outputs, x, scale, size)], **attributes)
    if len(x.shape) > 2 and op in ("Conv", "ConvTranspose") and net.chance(10):
        y = _normalized(net, y, outputs)
    return [net.quantized(_limited(net, y))]


def _partner(net: RandomTensors, x: Quantized, others: Sequence[Quantized]) -> tuple[Quantized, list[Quantized]]:
    """A tensor to combine with: itself, one that is there, or a branch from it, which is made."""
    fitting = [y for y in others if y is not x and _fits(x.shape, y.shape)]
    if fitting and net.chance(60):
        return net.choice(fitting), []
    match net.integer(0, 3):
        case 0:
            return x, []
        case 1 if len(x.shape) == 4:
            made = [net.quantized(net.node("GlobalAveragePool", [net.real(x)]), least=float(x.scale) / MOST)]
        case 2 if len(x.shape) == 4:
            channels = x.shape[1]
            made = _weighted(net, "Conv", x, (channels, channels, 1, 1), 0, channels, {})
        case _:
            made = unary(net, x, others)
    return made[0], made


def _limited(net: RandomTensors, y: str) -> str:
    """Perhaps a Relu or Clip of a layer's result."""
    kind = net.integer(0, 10)
    if kind < 6:
        return y
    if kind < 9:
        return net.node("Relu", [y])
    low, high = (net.constant(np.float32(bound)) for bound in (0, max(np.quantile(net.reals[y], 0.9), 0.01)))
    if kind < 10:
        return net.node("Clip", [y, low, high])
    return net.node("Min", [net.node("Max", [low, y]), high])


def _normalized(net: RandomTensors, x: str, channels: int) -> str:
    ranges = {"scale": (0.3, 2.0), "bias": (-1.0, 1.0), "mean": (-1.0, 1.0), "var": (0.2, 3.0)}
    stored = [net.constant(net.rng.uniform(*ends, channels).astype(np.float32), name) for name, ends in ranges.items()]
    return net.node("BatchNormalization", [x, *stored])


def _function(net: RandomTensors, x: str) -> str:
    op, attributes = net.choice(TOTAL)
    return net.node(op, [x], **attributes)


def _windows(net: RandomTensors, x: Quantized) -> dict[str, Any]:
    """Windows of a pool."""
    require(len(x.shape) in (3, 4))
    spatial = len(x.shape) - 2
    kernel = numbers(net, spatial, 1, 3)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": numbers(net, spatial, 1, 3)}
    if net.chance(20) and max(attributes["strides"]) <= min(kernel):
        return attributes | {"auto_pad": net.choice(["SAME_UPPER", "SAME_LOWER"])}
    attributes |= {"pads": [net.integer(0, k - 1) for k in (*kernel, *kernel)], "ceil_mode": net.integer(0, 1)}
    require(_fits_windows(x, attributes))
    return attributes


def _fits_windows(x: Quantized, attributes: dict[str, Any]) -> bool:
    """Whether a window lies inside the padded tensor, or with ceil_mode begins there: ONNX Runtime does not ask."""
    if attributes.get("auto_pad", "VALID") != "VALID":
        return True
    sizes, kernel = x.shape[2:], attributes["kernel_shape"]
    pads = attributes.get("pads", [0] * 2 * len(sizes))
    dilations = attributes.get("dilations", [1] * len(sizes))
    rooms = [n + pads[i] + pads[len(sizes) + i] - (kernel[i] - 1) * dilations[i] - 1 for i, n in enumerate(sizes)]
    more = [step - 1 if attributes.get("ceil_mode") else 0 for step in attributes["strides"]]
    return all(room + extra >= 0 for room, extra in zip(rooms, more, strict=True))


def _fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether the other is the same, or one for each channel."""
    return other == shape or (len(shape) == 4 and other == (*shape[:2], 1, 1))
