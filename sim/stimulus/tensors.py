"""The growing model behind random networks: quantized tensors, real ones between them, weights, and forms of nodes.

ONNX Runtime computes every real tensor on the way, so that scales follow what a tensor holds, shapes need no second
definition, and what ONNX does not allow is found at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from systolith.errors import SystolithError
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import OLDEST_IR, ModelWriter
from systolith.sim.stimulus.subgraphs import reads

__all__ = ["Draws", "Impossible", "Quantized", "RandomTensors", "SeededDraws"]

LARGEST = 12_000
"""Elements of a tensor."""
T = TypeVar("T")


class Draws(Protocol):
    """Where choices come from: a seed, or a property-based test that makes failing cases smaller."""

    def integer(self, low: int, high: int) -> int:
        """One of low to high, both included; the lowest is the simplest."""
        ...


class SeededDraws:
    """Choices of a random number generator."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))


class Impossible(Exception):
    """An operator that does not fit the tensor it was drawn for; the network goes on without it."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """An 8-bit tensor of the model, with what it holds for the inputs that were drawn."""

    name: str
    values: NDArray
    scale: np.float32
    zero_point: np.generic

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def real(self) -> NDArray[np.float32]:
        return (self.values.astype(np.int32) - np.int32(self.zero_point)).astype(np.float32) * self.scale


class RandomTensors:
    """Adds nodes to a model whose activations all have one 8-bit type; real tensors are known by name."""

    def __init__(self, draws: Draws, opset: int, dtype: np.dtype):
        self.draws, self.dtype = draws, dtype
        self.writer = ModelWriter(opset)
        self.low, self.high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        self.rng = np.random.default_rng(draws.integer(0, 1 << 30))
        self.reals: dict[str, NDArray] = {}
        self.inputs: dict[str, NDArray] = {}

    # Choices

    def integer(self, low: int, high: int) -> int:
        return self.draws.integer(low, high)

    def chance(self, percent: int) -> bool:
        return self.integer(0, 99) >= 100 - percent

    def choice(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def zero_point(self) -> np.generic:
        middle = (self.low + self.high + 1) // 2
        return self.dtype.type(self.choice([middle, self.low, self.high, self.integer(self.low, self.high)]))

    # Tensors

    def input(self, shape: tuple[int, ...]) -> Quantized:
        """A network input: quantized, or float32 with QuantizeLinear."""
        name, zero_point = f"x{len(self.inputs)}", self.zero_point()
        x = Quantized(name, self.rng.integers(self.low, self.high + 1, shape).astype(self.dtype),
                      np.float32(self.choice([0.125, 0.02, 0.0173])), zero_point)  # fmt: skip
        quantized = self.chance(60)
        self.inputs[name] = x.values if quantized else x.real
        self.writer.input(name, self.dtype if quantized else np.float32, shape)
        return x if quantized else replace(x, name=self.writer.quantize(name, x.scale, zero_point))

    def output(self, y: Quantized) -> None:
        """A network output: quantized, or float32 with DequantizeLinear."""
        if self.chance(30):
            self.writer.output(self.writer.dequantize(y.name, y.scale, y.zero_point), np.float32, y.shape)
        else:
            self.writer.output(y.name, self.dtype, y.shape)

    def real(self, x: Quantized) -> str:
        """The tensor behind a DequantizeLinear of its own."""
        name = self.writer.dequantize(x.name, x.scale, x.zero_point)
        self.reals[name] = x.real
        return name

    def constant(self, values: Any, stem: str = "constant") -> str:
        """A constant that real nodes read."""
        name = self.writer.constant(values, stem)
        self.reals[name] = np.asarray(values)
        return name

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A real tensor, the result of one node."""
        return self.nodes(op, inputs, 1, **attributes)[0]

    def nodes(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """The real tensors that one node makes."""
        stem = f"{op.lower()}_{len(self.writer.nodes)}"
        names = [f"{stem}_{i}_out" for i in range(outputs)]
        node = helper.make_node(op, inputs, names, stem, **attributes)
        results = self._computed(node)
        self.writer.nodes.append(node)
        self.reals |= zip(names, results, strict=True)
        return names

    def quantized(self, name: str, like: Quantized | None = None, least: float = 0) -> Quantized:
        """The QuantizeLinear of a real tensor: with scale and zero point of another one, or with its own."""
        values = self.reals[name]
        scale, zero_point = (like.scale, like.zero_point) if like else self.parameters(values)
        scale = max(scale, np.float32(least))
        y = self.rounded("", values, scale, zero_point)
        return replace(y, name=self.writer.quantize(name, scale, zero_point))

    def integers(self, op: str, inputs: Sequence[str], values: NDArray, y: Quantized, **attributes: Any) -> Quantized:
        """The result of a node of 8-bit tensors, of com.microsoft or ONNX, that holds about these real values."""
        domain = "com.microsoft" if op.startswith("QLinear") and op not in ("QLinearConv", "QLinearMatMul") else ""
        name = self.writer.node(op, inputs, domain=domain, **attributes)
        return self.rounded(name, values, y.scale, y.zero_point)

    def estimated(self, op: str, inputs: Sequence[Quantized], **attributes: Any) -> NDArray:
        """What a real operator makes of quantized tensors; nothing is added to the model."""
        lengths = [len(items) for items in (self.writer.nodes, self.writer.initializers)]
        values = self.reals[self.node(op, [self.real(x) for x in inputs], **attributes)]
        for items, length in zip((self.writer.nodes, self.writer.initializers), lengths, strict=True):
            del items[length:]
        return values

    def stored(self, x: Quantized) -> list[str]:
        """Names of constants that hold scale and zero point."""
        return [self.writer.constant(x.scale, "scale"), self.writer.constant(x.zero_point, "zero_point")]

    def rounded(self, name: str, values: NDArray, scale: np.float32, zero_point: np.generic) -> Quantized:
        """A tensor of about these real values."""
        with np.errstate(over="ignore"):
            steps = np.clip(np.rint(values / scale) + np.float32(zero_point), self.low, self.high)
        return Quantized(name, steps.astype(self.dtype), scale, zero_point)

    def parameters(self, values: NDArray) -> tuple[np.float32, np.generic]:
        """Scale and zero point that fit the values; or by which some or many saturate, or few steps are used."""
        smallest, largest = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        reach = max(largest - smallest, 1e-4)
        kind = self.integer(0, 5)
        if kind <= 2:
            scale = np.float32(reach / 255)
            zero_point = self.dtype.type(np.clip(np.rint(self.low - smallest / scale), self.low, self.high))
            return scale, zero_point if kind else self.zero_point()
        if kind == 3:
            return np.float32(2.0 ** np.ceil(np.log2(reach / 255))), self.zero_point()
        return np.float32(reach / self.choice([600, 70, 9000])), self.zero_point()

    def weights(self, shape: tuple[int, ...], axis: int, per_channel: bool = True) -> tuple[str, NDArray[np.float32]]:
        """The name of int8 weights behind DequantizeLinear, and their scales: one, or one for each along `axis`."""
        values = np.clip(np.rint(self.rng.normal(0, 45, shape)), -128, 127)
        if self.chance(10):
            values = self.rng.choice([-128, 127], shape)
        many = per_channel and self.chance(50)
        scale = np.asarray(self.rng.uniform(0.002, 0.02, shape[axis] if many else ()), np.float32)
        if many and self.chance(10):  # A dead channel, whose scale means nothing.
            dead = self.integer(0, shape[axis] - 1)
            values[(slice(None),) * axis + (dead,)] = 0
            scale[dead] = self.choice([0.01, 0.0, 1e-40, 1e-30])
        integers = self.writer.constant(values.astype(np.int8), "w")
        name = self.writer.dequantize(
            integers, scale, np.zeros(scale.shape, np.int8), **({"axis": axis} if many else {})
        )
        along = scale.reshape([-1 if many and i == axis else 1 for i in range(len(shape))])
        self.reals[name] = values.astype(np.float32) * along
        return name, scale

    def bias(self, count: int, x: Quantized, scale: NDArray[np.float32], size: float) -> str:
        """int32 in units of the layer's sums behind DequantizeLinear, or int8 of a scale of its own; about as large as
        `size`."""
        real = self.rng.normal(0, max(size, 0.1), count)
        if self.chance(15):
            return self._small_bias(real)
        units = np.broadcast_to(x.scale * scale, count)
        values = np.clip(np.rint(real / np.maximum(units, np.float32(1e-20))), -(2**24), 2**24)
        unit = (x.scale * scale).astype(np.float32)
        integers = self.writer.constant(values.astype(np.int32), "bias")
        name = self.writer.dequantize(
            integers, unit, np.zeros(unit.shape, np.int32), **({"axis": 0} if unit.ndim else {})
        )
        self.reals[name] = (values * units).astype(np.float32)
        return name

    def _small_bias(self, real: NDArray) -> str:
        scale, zero_point = np.float32(np.abs(real).max() / 100), np.int8(self.integer(-20, 20))
        values = (np.rint(real / scale) + zero_point).astype(np.int8)
        name = self.writer.dequantize(self.writer.constant(values, "bias"), scale, zero_point)
        self.reals[name] = (values.astype(np.int32) - zero_point).astype(np.float32) * scale
        return name

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What happens inside is undone if it is impossible, and the exception ends here."""
        lists = (self.writer.nodes, self.writer.initializers, self.writer.inputs, self.writer.outputs)
        lengths = [len(items) for items in lists]
        try:
            yield
        except Impossible:
            for items, length in zip(lists, lengths, strict=True):
                del items[length:]
            self.inputs = {port.name: self.inputs[port.name] for port in self.writer.inputs}

    def _computed(self, node: NodeProto) -> list[NDArray]:
        """The real results of a node. Raises Impossible for a node that is none, or too large."""
        model = self._alone(node)
        results = [np.asarray(y, np.float32) for y in self._run(model)]
        if [y.shape for y in results] != _inferred(model):
            raise Impossible(f"{node.op_type} has another shape by ONNX's rules, as some pools with ceil_mode do")
        if any(not y.size or y.size > LARGEST or not np.isfinite(y).all() for y in results):
            raise Impossible(f"{node.op_type} of sizes {[y.shape for y in results]}")
        return results

    def _alone(self, node: NodeProto) -> onnx.ModelProto:
        """A model of one node; what it reads, graphs inside it included, are constants."""
        read = {name: self.reals[name] for name in reads(node) if name}
        stored = [numpy_helper.from_array(values, name) for name, values in read.items()]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        opsets = [helper.make_opsetid("", self.writer.opset), helper.make_opsetid("com.microsoft", 1)]
        version = max(OLDEST_IR, helper.find_min_ir_version_for(opsets[:1]))
        return helper.make_model(helper.make_graph([node], "node", [], outputs, stored), opset_imports=opsets,
                                 ir_version=version)  # fmt: skip

    def _run(self, model: onnx.ModelProto) -> list[NDArray]:
        """Outputs of a model without inputs. Raises Impossible where ONNX Runtime refuses it, or ends its process."""
        try:
            return list(reference.run(model.SerializeToString(), {}, "none").values())
        except SystolithError as error:
            raise Impossible(str(error)) from None


def _inferred(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Shapes of the outputs, by ONNX's shape inference."""
    outputs = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    return [tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim) for output in outputs]
