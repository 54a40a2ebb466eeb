"""ONNX's backend interface: `onnx.backend.base.Backend` over the accelerator's simulators.

    import onnx
    from systolith import onnx_backend

    outputs = onnx_backend.run_model(onnx.load("model.onnx"), [x], config="tiny4", backend="rtl")

Options of `prepare`, `run_model` and `run_node`: `config` (a Config, or what `load_config` takes; edge16), `backend`
(golden, isa, rtl, cocotb; isa), `strict` (nothing on the host; False) and `quantize` (a float model becomes int8,
calibrated by the inputs of its first run; False). What the accelerator cannot run raises `Unsupported`, which ONNX's
test runner takes for a test to skip.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.backend.base import Backend, BackendRep, namedtupledict
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from systolith.compiler.frontend.model.open_dims import is_open
from systolith.compiler.frontend.model.reader import OLDEST_OPSET
from systolith.compiler.frontend.model.types import port, tensor_types
from systolith.compiler.frontend.registry import OPERATORS
from systolith.compiler.network import compile_network
from systolith.compiler.quantize.quantize import quantize_model
from systolith.config import Config, load_config
from systolith.errors import SystolithError, UnsupportedError
from systolith.network import Network
from systolith.program import Program
from systolith.sim.run import BACKENDS, run

__all__ = ["Prepared", "Ready", "SystolithBackend", "Unsupported", "bind", "prepare", "run_model",
           "run_node", "supports_device"]  # fmt: skip

Inputs = Sequence[Any] | Mapping[str, Any] | np.ndarray
ACTIVATIONS = {
    **dict.fromkeys(("Add", "Mul", "Sub"), (0, 1)),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), (0, 3)),
    **dict.fromkeys(("Concat", "Max", "Mean", "Min", "Sum"), tuple(range(99))),
    "QLinearConcat": tuple(range(2, 99, 3)),
}
"""Positions of the inputs that change from run to run; of other operators the first one."""
OPTIONS: dict[str, Any] = {"config": "edge16", "backend": "isa", "strict": False, "quantize": False}
"""Options, and what they are if not given."""
NEWEST_OPSET, PLAIN_OPSET = onnx.defs.onnx_opset_version(), 13
"""Opsets of a node alone: the newest; for one of another domain than ONNX's, of which it says nothing, one that all
know."""


class Unsupported(UnsupportedError, BackendIsNotSupposedToImplementIt):
    """What the accelerator cannot run, by name."""


class Ready(NamedTuple):
    """A compiled network, and what it reads."""

    network: Program | Network
    inputs: dict[str, NDArray]


class Prepared(BackendRep):
    """A model that runs as often as one likes.

    Scales, weights and whatever else the accelerator needs to be constant may be inputs of the model: they are bound
    as they come, and the network is compiled again only if they, or first dimensions that the model leaves open, are
    others than before.
    """

    def __init__(self, model: ModelProto, config: Config, backend: str, strict: bool, quantize: bool):
        self.model, self.config, self.backend, self.strict, self.quantize = model, config, backend, strict, quantize
        stored = {tensor.name for tensor in model.graph.initializer}
        self.ports = {item.name: item for item in model.graph.input if item.name not in stored}
        self.changing = _changing(model)
        self._networks: dict[tuple, Program | Network] = {}
        if self.changing.issuperset(self.ports) and not quantize and not any(map(is_open, self.ports.values())):
            self._network({}, {})

    def split(self, inputs: Inputs) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        """Inputs by name, given so or in the model's order: those that are bound, and the rest."""
        arrays = self._named(inputs)
        bound = {name: values for name, values in arrays.items() if name not in self.changing}
        return bound, {name: values for name, values in arrays.items() if name in self.changing}

    def ready(self, inputs: Inputs) -> Ready:
        """The network for these inputs."""
        bound, rest = self.split(inputs)
        return Ready(self._network(bound, rest), rest)

    def run(self, inputs: Inputs, **kwargs: Any) -> tuple[Any, ...]:
        """The model's outputs, in its order, and by name."""
        if kwargs:
            raise SystolithError(f"run must have no options but the inputs, not {', '.join(kwargs)}")
        network, arrays = self.ready(inputs)
        outputs, _ = run(network, arrays, self.config, self.backend)
        names = [port.name for port in self.model.graph.output]
        return namedtupledict("Outputs", names)(*(outputs[name] for name in names))

    def _named(self, inputs: Inputs) -> dict[str, NDArray]:
        given = _by_name(list(self.ports), inputs)
        for name, values in given.items():
            expected = helper.tensor_dtype_to_np_dtype(self.ports[name].type.tensor_type.elem_type)
            if values.dtype != expected:
                raise SystolithError(f"Input '{name}' must be {expected}, not {values.dtype}")
        return given

    def _network(self, bound: Mapping[str, NDArray], rest: Mapping[str, NDArray]) -> Program | Network:
        sizes = {name: len(x) for name, x in rest.items() if is_open(self.ports[name]) and x.ndim}
        values = ((name, values.dtype.str, values.shape, values.tobytes()) for name, values in bound.items())
        key = (*sizes.items(), *values)
        if key not in self._networks:
            proto = bind(self.model, bound)
            for port in proto.graph.input:
                if port.name in sizes:
                    port.type.tensor_type.shape.dim[0].dim_value = sizes[port.name]
            model = proto.SerializeToString()
            try:
                if self.quantize:
                    model = quantize_model(model, rest, operators=OPERATORS, where="model")
                self._networks[key] = compile_network(model, self.config, strict=self.strict)
            except UnsupportedError as error:
                raise Unsupported(str(error), error.node) from None
        return self._networks[key]


class SystolithBackend(Backend):
    """The accelerator, as ONNX's tools know backends."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether `prepare` takes the model. One with constants among its inputs may still be refused when it runs."""
        try:
            cls.prepare(model, device, **kwargs)
        except SystolithError:
            return False
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> Prepared:
        """The model, compiled if its inputs alone change from run to run. Raises SystolithError if it is refused."""
        if not cls.supports_device(device):
            raise SystolithError(f"Device must be CPU, where the simulators run, not {device!r}")
        if unknown := kwargs.keys() - OPTIONS.keys():
            raise SystolithError(f"Options must be some of {', '.join(OPTIONS)}, not {', '.join(sorted(unknown))}")
        options = OPTIONS | kwargs
        config = options.pop("config")
        if not isinstance(model, ModelProto):
            raise SystolithError(f"Model must be an onnx.ModelProto, not {type(model).__name__}")
        if not isinstance(config, Config | str | Path):
            raise SystolithError(f"Configuration must be a Config, a preset's name or a .toml file, not {config!r}")
        if options["backend"] not in BACKENDS:
            raise SystolithError(f"Backend must be one of {', '.join(BACKENDS)}, not {options['backend']!r}")
        return Prepared(model, config if isinstance(config, Config) else load_config(str(config)), **options)

    @classmethod
    def run_model(cls, model: ModelProto, inputs: Inputs, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Outputs of a model for these inputs."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(cls, node: NodeProto, inputs: Inputs, device: str = "CPU", outputs_info: Any = None,
                 **kwargs: Any) -> tuple[Any, ...]:  # fmt: skip
        """Outputs of one node; `outputs_info` has type and shape of each, where they cannot be inferred. Inputs that
        the node leaves out may be left out, or be None. One more option is `opset_version`."""
        opset = kwargs.pop("opset_version", PLAIN_OPSET if node.domain else NEWEST_OPSET)
        if not isinstance(opset, int) or not OLDEST_OPSET <= opset <= NEWEST_OPSET:
            raise SystolithError(f"Opset version must be from {OLDEST_OPSET} to {NEWEST_OPSET}, not {opset!r}")
        if not node.domain:
            version: Any = opset  # Declared as a dictionary there.
            try:
                super().run_node(node, inputs, device, outputs_info, opset_version=version)
            except onnx.checker.ValidationError as error:
                reason = " ".join(str(error).split())
                raise SystolithError(f"Node '{node.name or node.op_type}' is not valid ONNX: {reason}") from None
        if isinstance(inputs, list | tuple) and len(inputs) == len(node.input):
            inputs = [values for name, values in zip(node.input, inputs, strict=True) if name]
        given = _by_name([name for name in node.input if name], inputs)
        ports = [_port(name, values.dtype, values.shape) for name, values in given.items()]
        try:
            infos = [(np.dtype(dtype), tuple(shape)) for dtype, shape in outputs_info or []]
        except (TypeError, ValueError):
            raise SystolithError(
                f"outputs_info must have a type and a shape for each output, not {outputs_info!r}"
            ) from None
        outputs = [_port(name, dtype, shape) for name, (dtype, shape) in zip(node.output, infos, strict=False)]
        opsets = [helper.make_opsetid("", opset)]
        if node.domain:
            opsets.append(helper.make_opsetid(node.domain, 1))
        graph = helper.make_graph([node], "node", ports, outputs)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets[:1]))
        if not outputs:
            model.graph.output.extend(_inferred(model))
        return cls.run_model(model, given, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU: it simulates the accelerator."""
        return device.split(":")[0] == "CPU"


def _by_name(names: Sequence[str], inputs: Inputs) -> dict[str, NDArray]:
    """Arrays by name, given so or in the order of `names`, which may have a name twice."""
    if isinstance(inputs, Mapping):
        given = dict(inputs)
        if missing := set(names) - given.keys():
            raise SystolithError(f"Inputs must have {_listed(names)}; {_listed(missing)} is missing")
        if unknown := given.keys() - set(names):
            raise SystolithError(f"Inputs must be {_listed(names)}; there is no {_listed(unknown)}")
    else:
        values = [inputs] if isinstance(inputs, np.ndarray) else inputs
        if not isinstance(values, Iterable) or isinstance(values, str):
            raise SystolithError(f"Inputs must be arrays, in order or by name, not {inputs!r}")
        values = list(values)
        if len(values) != len(names):
            raise SystolithError(f"Inputs must be {len(names)} ({', '.join(names)}), not {len(values)}")
        given = dict(zip(names, values, strict=True))
    try:
        return {name: np.asarray(values) for name, values in given.items()}
    except ValueError as error:
        raise SystolithError(f"Inputs must be arrays: {error}") from None


def _inferred(model: ModelProto) -> list[onnx.ValueInfoProto]:
    """Outputs of a model of one node, inferred by ONNX or, where it does not know the operator, by ONNX Runtime."""
    node = model.graph.node[0]
    names = [name for name in node.output if name]
    probe = ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = list(onnx.shape_inference.infer_shapes(probe, data_prop=True).graph.output)
    if all(item.type.tensor_type.elem_type for item in found):
        return found
    try:
        kinds = tensor_types(model, names, "outputs_info must be given where types cannot be inferred")
    except SystolithError as error:
        raise SystolithError(f"{node.op_type} '{node.name or names[0]}': {error}") from None
    return [port(name, kinds[name]) for name in names if name in kinds]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "none"


def _changing(model: ModelProto) -> set[str]:
    """Inputs that some node reads where the accelerator has data."""
    found: set[str] = set()
    made = {name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        positions = ACTIVATIONS.get(node.op_type, (0,))
        found.update(name for i, name in enumerate(node.input) if i in positions and name not in made)
    return found


def bind(model: ModelProto, bound: Mapping[str, NDArray]) -> ModelProto:
    """A copy of a model with some inputs as initializers."""
    copy = ModelProto()
    copy.CopyFrom(model)
    kept = [port for port in copy.graph.input if port.name not in bound]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    copy.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in bound.items())
    return copy


def _port(name: str, dtype: Any, shape: Sequence[int]) -> onnx.ValueInfoProto:
    try:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
    except (ValueError, TypeError):
        raise SystolithError(f"Tensor '{name}' must be of a type that ONNX has, not {dtype}") from None


prepare = SystolithBackend.prepare
run_model = SystolithBackend.run_model
run_node = SystolithBackend.run_node
supports_device = SystolithBackend.supports_device
