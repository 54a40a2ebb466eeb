"""`systolith quantize`: a float ONNX file to an int8 one, with the accuracy of both where labels are given."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from systolith.cli.outputs import check_outputs
from systolith.errors import SystolithError
from systolith.file_io import write_whole

if TYPE_CHECKING:
    from onnx import ModelProto

    from systolith.compiler.quantize.calibration import Samples

__all__ = ["Settings", "quantize_file"]

LABELS = "labels"
"""The array of class numbers in a calibration or labels file."""


@dataclass(frozen=True)
class Settings:
    """How to quantize: see `systolith.compiler.quantize.quantize.quantize_model`."""

    activations: str
    method: str
    per_channel: bool


def quantize_file(path: Path, output: Path, calibration: Path, labels: Path | None, settings: Settings) -> None:
    """Quantize the model, write it, print its size and, with labels, how many samples both models get right."""
    from systolith.compiler.quantize.quantize import float_model, quantize_model
    from systolith.sim.host.files import load_arrays

    if output.suffix != ".onnx":
        raise SystolithError(f"Quantized model must go to a .onnx file, not '{output}'")
    check_outputs([output], [path, calibration, labels])
    model = float_model(path, str(path))
    names = [port.name for port in model.graph.input]
    arrays = load_arrays(calibration, [*names, LABELS], single=names[0] if len(names) == 1 else None)
    own = arrays.pop(LABELS, None) if LABELS not in names else None
    samples = _samples(model, arrays, path, calibration)
    test = _test_set(model, path, labels, samples, own)
    original = model.SerializeToString()
    with _progress() as advance:
        quantized = quantize_model(
            original,
            arrays,
            activations=settings.activations,
            method=settings.method,
            per_channel=settings.per_channel,
            where=str(path),
            advance=advance,
        )
    models = {"float": original, "int8": quantized} if test else {}
    accuracy = [_accuracy(name, version, *test) for name, version in models.items() if test]
    write_whole(output, quantized)
    print(f"{output}: {len(quantized):,} bytes, from {len(original):,}; calibrated with {samples.count} samples")
    for line in accuracy:
        print(line)


def _accuracy(name: str, model: bytes, samples: "Samples", labels: NDArray) -> str:
    from systolith.sim.reference.accuracy import correct

    found = correct(model, samples, labels)
    return f"top-1 accuracy, {name}: {100 * found / samples.count:.2f} % ({found} of {samples.count})"


def _test_set(
    model: "ModelProto", source: Path, path: Path | None, calibration: "Samples", own: NDArray | None
) -> "tuple[Samples, NDArray] | None":
    """Samples and labels for accuracy: those of the labels file, or those of the calibration file."""
    from systolith.sim.host.files import load_arrays
    from systolith.sim.reference.accuracy import check_labels

    if path is None:
        labels, samples = own, calibration
    else:
        arrays = load_arrays(path, [LABELS, *(port.name for port in model.graph.input)], single=LABELS)
        if LABELS not in arrays:
            raise SystolithError(f"{path}: must have an array '{LABELS}', not {', '.join(map(repr, arrays)) or 'none'}")
        labels = arrays.pop(LABELS)
        samples = _samples(model, arrays, source, path) if arrays else calibration
    if labels is None:
        return None
    check_labels(labels, samples.count)
    return samples, labels


def _samples(model: "ModelProto", arrays: dict[str, NDArray], source: Path, path: Path) -> "Samples":
    """Those in the file `path` for the model of the file `source`."""
    from systolith.compiler.quantize.calibration import Samples

    try:
        return Samples.that_run(model, arrays, str(source))
    except SystolithError as error:
        raise SystolithError(f"{path}: {error}") from None


@contextmanager
def _progress() -> Iterator:
    """A bar on a terminal's stderr, nothing elsewhere; yields what tells it how far the work is."""
    console = Console(stderr=True)
    bar = Progress(TextColumn("calibrating"), BarColumn(), MofNCompleteColumn(), console=console, transient=True,
                   disable=not console.is_terminal)  # fmt: skip
    with bar:
        task = bar.add_task("calibrating", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
