"""Float ONNX to int8 QDQ by ONNX Runtime's quantizer, checked before and quiet meanwhile: `quantize_model`.

Weights become int8, symmetric, with a scale for each output channel; activations int8 or uint8. Before that, batch
normalizations fold into the layers before them (`fold_norms`, and ONNX Runtime's optimizer), and so do constants.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper, version_converter
from onnxruntime import quantization
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from systolith.compiler.frontend.model.open_dims import with_open_dims
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.quantize.calibration import Samples
from systolith.compiler.quantize.fold_norms import fold_norms
from systolith.compiler.quantize.hidden_readers import show_readers
from systolith.compiler.quantize.own_constants import own_constants
from systolith.errors import SystolithError

__all__ = ["ACTIVATIONS", "METHODS", "float_model", "quantize_model"]

ACTIVATIONS = {"int8": quantization.QuantType.QInt8, "uint8": quantization.QuantType.QUInt8}
METHODS = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "entropy": quantization.CalibrationMethod.Entropy,
    "percentile": quantization.CalibrationMethod.Percentile,
}
FUNCTIONS = (
    "Celu", "Elu", "Gelu", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Mish", "PRelu", "ReduceMean", "Selu",
    "Softplus", "Softsign", "Sub", "Swish", "Tanh", "ThresholdedRelu",
)  # fmt: skip
"""Operators that ONNX Runtime leaves in float32, and that the accelerator runs."""
OLDEST_OPSET = 7
PER_CHANNEL_OPSET = 13
"""The oldest whose DequantizeLinear has a scale for each channel; older models are converted."""
INITIALIZERS_ALONE = 4
"""The oldest version of the format in which initializers need not be inputs."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
LISTED = 8
"""Operators in an error."""
QUIET, DEFAULT = 4, 2
"""Severities of ONNX Runtime's log: fatal errors only, as all others come as exceptions; and what it starts with."""

Advance = Callable[[int, int], None]


def quantize_model(
    source: bytes | Path,
    calibration: Mapping[str, NDArray],
    *,
    activations: str = "int8",
    method: str = "minmax",
    per_channel: bool = True,
    operators: Iterable[str] = FUNCTIONS,
    where: str | None = None,
    advance: Advance | None = None,
) -> bytes:
    """The model of a file, or of its bytes, with int8 weights and `activations` ("int8" or "uint8").

    `calibration` has an array for each input, by name, as `systolith.compiler.quantize.calibration` describes; `method`
    is one of METHODS. `operators` are quantized beside those that ONNX Runtime always quantizes. `advance(done, all)`
    is told how many batches of it are done. Raises SystolithError for a model that is none or is quantized already, and
    for calibration that is not for it; `where` names the model in errors.
    """
    where = where or (str(source) if isinstance(source, Path) else "model")
    _require("Activations", activations, ACTIVATIONS)
    _require("Calibration method", method, METHODS)
    model = fold_norms(float_model(source, where))
    reader = _Reader(Samples.that_run(model, calibration, where), advance)
    outputs = _set_apart(model)
    try:
        with _quiet(), tempfile.TemporaryDirectory() as folder:
            paths = [str(Path(folder) / name) for name in ("float.onnx", "prepared.onnx", "quantized.onnx")]
            onnx.save(model, paths[0])
            # Its symbolic shape inference would need a package more, for models with several open dimensions.
            quantization.quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
            onnx.save(show_readers(own_constants(onnx.load(paths[1]))), paths[1])
            quantization.quantize_static(
                paths[1],
                paths[2],
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=per_channel,
                activation_type=ACTIVATIONS[activations],
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=METHODS[method],
                # A batch at a time: all activations of all samples would not fit in memory.
                # Pools and operators that move data too, whatever is before them.
                extra_options={"CalibStridedMinMax": 1, "ForceQuantizeNoInputCheck": True},
                op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry, *operators}),
            )
            quantized = onnx.load(paths[2])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class.
        reason = " ".join(str(error).split())[:300]
        infinite = (t.name for t in model.graph.initializer if not np.isfinite(_floats(t)).all())
        hint = "".join(f"; initializer '{name}' has NaN or infinity" for name in islice(infinite, 1))
        raise SystolithError(f"{where}: ONNX Runtime cannot quantize it: {reason}{hint}") from None
    _check_quantized(quantized, model, where)
    made = {port.name: port for port in quantized.graph.output}
    outputs = [made.get(port.name, port) for port in outputs]  # With the shapes that are known now.
    del quantized.graph.output[:]
    quantized.graph.output.extend(outputs)
    return _with_used_domains(quantized).SerializeToString()


def _set_apart(model: ModelProto) -> list[ValueInfoProto]:
    """All outputs. Those that are inputs, which the quantizer takes for a loop, are taken away from the model."""
    outputs = list(model.graph.output)
    names = {port.name for port in model.graph.input}
    kept = [port for port in outputs if port.name not in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return outputs


def _check_quantized(model: ModelProto, original: ModelProto, where: str) -> None:
    """Raises SystolithError if nothing was quantized, or with a scale that is no number."""
    operators = {node.op_type for node in model.graph.node}
    if not operators & {"QuantizeLinear", "DequantizeLinear"}:
        found = ", ".join(sorted({node.op_type for node in original.graph.node})[:LISTED])
        wanted = "float32 operators that ONNX Runtime's quantizer takes, as Conv or MatMul"
        raise SystolithError(f"{where}: must have {wanted}; found {found}")
    scales = {node.input[1]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.name in scales and not np.isfinite(_floats(tensor)).all():
            raise SystolithError(
                f"{where}: tensor '{scales[tensor.name]}' must have a range that float32 can hold in calibration"
            )


def _floats(tensor: TensorProto) -> NDArray:
    """Values of a float tensor, none of another."""
    values = numpy_helper.to_array(tensor)
    return values if values.dtype.kind == "f" else np.zeros(0)


class _Reader(quantization.CalibrationDataReader):
    """Hands batches to the calibration and tells how far it is."""

    def __init__(self, samples: Samples, advance: Advance | None):
        self.samples, self.advance = samples, advance
        self.next, self.end = 0, len(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.next, self.end = start_index, end_index

    def get_next(self) -> dict[str, NDArray]:
        if self.next == self.end:
            if self.advance:
                self.advance(self.next, len(self))
            return {}
        self.next += 1
        return self.samples[self.next - 1]


def float_model(source: bytes | Path, where: str) -> ModelProto:
    """The model of a file, or of its bytes, as it can be quantized: with its data alone as inputs, dimensions and names
    as ONNX Runtime takes them, and of an opset that has a scale for each channel. Raises SystolithError for what is no
    float32 model."""
    model = with_open_dims(read_model(source, where, OLDEST_OPSET))
    for node in model.graph.node:
        if "QuantizeLinear" in node.op_type or "DequantizeLinear" in node.op_type or node.op_type.startswith("QLinear"):
            name = node.name or node.output[0]
            raise SystolithError(f"{where}: must be a float model; {node.op_type} '{name}' shows that it is quantized")
    doubles = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.DOUBLE}
    for node in model.graph.node:
        if node.op_type in WEIGHTED and doubles.intersection(node.input):
            label = f"{node.op_type} '{node.name or node.output[0]}'"
            raise SystolithError(f"{where}: must be a float32 model; {label} has weights of float64")
    named: set[str] = set()
    for node in model.graph.node:
        if node.name in named:
            node.name = ""  # ONNX Runtime takes no name twice.
        named.add(node.name)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, INITIALIZERS_ALONE)
    opset = max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    if opset >= PER_CHANNEL_OPSET:
        return model
    try:
        return version_converter.convert_version(model, PER_CHANNEL_OPSET)
    except (RuntimeError, version_converter.ConvertError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SystolithError(f"{where}: opset {opset} cannot be converted to {PER_CHANNEL_OPSET}: {reason}") from None


def _with_used_domains(model: ModelProto) -> ModelProto:
    """Without the domains that ONNX Runtime's optimizer adds to all models."""
    used = {node.domain for node in model.graph.node} | {"", "ai.onnx"}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on the terminal from prints, warnings and logs inside."""
    disabled = logging.root.manager.disable
    onnxruntime.set_default_logger_severity(QUIET)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        onnxruntime.set_default_logger_severity(DEFAULT)


def _require(what: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise SystolithError(f"{what} must be {' or '.join(known)}, not {name!r}")
