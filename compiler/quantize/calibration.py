"""Samples for a model, as its user has them: an array for each input, by name.

A run of the model takes of each array, by the shape that the model's input has:

- an array with an axis more than the input: one entry of that first axis. So a scalar, or an LSTM's state (1, batch,
  size), comes as (runs,) or (runs, 1, batch, size).
- an array with as many axes: as many entries of the first one, the samples, as the input's first dimension says; the
  last run is filled up with the last sample. Where the model leaves that dimension open, several samples go at a time.
- an array of the input's own shape, where other inputs have several runs, or which has no first entry: all of it, in
  each run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto

from systolith import runtime
from systolith.errors import SystolithError
from systolith.runtime import RuntimeRefusal

__all__ = ["Samples"]

BATCH = 8
"""Samples at a time where the model leaves the batch open."""


@dataclass(frozen=True)
class _Feed:
    """An array, and what a run takes of it: `rows` entries of its first axis, None where the model leaves that open.
    `extra`: that axis is not the model's, which sees the entry itself."""

    values: NDArray
    rows: int | None
    extra: bool = False

    @property
    def count(self) -> int:
        return len(self.values) if self.values.ndim else 1

    @property
    def whole(self) -> bool:
        """Whether one run takes exactly all of it."""
        return self.count == self.rows

    def runs(self, batch: int) -> int:
        """How many it is for, if those that are open take `batch`."""
        return -(-self.count // (self.rows or batch))

    def take(self, run: int, batch: int) -> NDArray:
        """What a run sees; the last entries again where there are no more."""
        if self.values.ndim == 0:
            return self.values
        rows = self.rows or batch
        first = 0 if self.whole else run * rows
        chosen = np.minimum(np.arange(first, first + rows), self.count - 1)
        return self.values[chosen[0], ...] if self.extra else np.ascontiguousarray(self.values[chosen])


class Samples:
    """Iterates over the inputs of each run.

    `ports` are the model's inputs. Raises SystolithError unless `arrays` are for them; `what` names the arrays. `most`
    is the largest batch where the model leaves it open.
    """

    def __init__(self, ports: Sequence[ValueInfoProto], arrays: Mapping[str, NDArray], what: str = "Calibration",
                 most: int = BATCH):  # fmt: skip
        _check_names([port.name for port in ports], list(arrays), what)
        self.feeds = {port.name: _feed(port, arrays[port.name], what) for port in ports}
        self.batch = self._batch(most)
        self.runs = max(feed.runs(self.batch) for feed in self.feeds.values())
        counts = {name: feed.count for name, feed in self.feeds.items() if not (feed.whole and self.runs > 1)}
        alike = {(self.feeds[name].rows, count) for name, count in counts.items()}
        if len({rows for rows, _ in alike}) < len(alike):
            raise SystolithError(f"{what} must have as many samples of each input, not {counts}")
        runs = {name: self.feeds[name].runs(self.batch) for name in counts}
        if len(set(runs.values())) > 1:
            raise SystolithError(f"{what} must be for as many runs of the model in each input, not {runs}")
        self.count = max((count for name, count in counts.items() if not self.feeds[name].extra), default=self.runs)

    @classmethod
    def that_run(cls, model: ModelProto, arrays: Mapping[str, NDArray], where: str) -> "Samples":
        """For a model that ONNX Runtime then runs: one at a time, if it does not take more. Raises SystolithError, with
        its reason, if it does not take that either."""
        samples = cls(model.graph.input, arrays)
        session = _session(model, where)
        reason = _failure(session, samples)
        if reason and samples.batch > 1:
            single = cls(model.graph.input, arrays, most=1)
            if single.batch == 1 and not any(_failure(session, single, run) for run in range(samples.batch)):
                return single
        if reason:
            raise SystolithError(f"{where}: ONNX Runtime cannot run it on the first samples: {reason}")
        return samples

    def _batch(self, most: int) -> int:
        """Samples of a run: as many as where the model says it, for as many samples or as many runs."""
        given = [feed for feed in self.feeds.values() if feed.rows is not None]
        fixed = [(feed.count, feed.rows) for feed in given if feed.rows is not None and not feed.extra]
        count = max((feed.count for feed in self.feeds.values() if feed.rows is None), default=None)
        if count is None:
            several = [rows for total, rows in fixed if total > rows] or [rows for _, rows in fixed]
            return max(several, default=1)
        same = [rows for total, rows in fixed if total == count]
        runs = max((feed.runs(1) for feed in given), default=1)
        return same[0] if same else -(-count // runs) if runs > 1 else min(most, count)

    def __len__(self) -> int:
        return self.runs

    def __iter__(self) -> Iterator[dict[str, NDArray]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, NDArray]:
        return {name: np.asarray(feed.take(index, self.batch)) for name, feed in self.feeds.items()}


def _session(model: ModelProto, where: str) -> runtime.Session:
    """The model in ONNX Runtime's own process: what ends that would end the quantizer, too."""
    try:
        return runtime.load(model.SerializeToString())
    except RuntimeRefusal as error:
        raise SystolithError(f"{where}: ONNX Runtime refuses the model: {error}") from None


def _failure(session: runtime.Session, samples: Samples, run: int = 0) -> str:
    """Why a run fails; empty if it does not."""
    try:
        session.run(samples[run])
    except RuntimeRefusal as error:
        return str(error)
    return ""


def _check_names(names: list[str], found: list[str], what: str) -> None:
    if not names:
        raise SystolithError(f"{what} must be for a model with inputs; this one has none")
    expected = ", ".join(f"'{name}'" for name in names)
    for name in names:
        if name not in found:
            raise SystolithError(f"{what} must have an array for each input ({expected}); '{name}' is missing")
    for name in found:
        if name not in names:
            raise SystolithError(
                f"{what} must have arrays for the inputs ({expected}) only; there is no input '{name}'"
            )


def _feed(port: ValueInfoProto, values: Any, what: str) -> _Feed:
    """The array of an input, checked."""
    label = f"{what} of input '{port.name}'"
    kind = port.type.WhichOneof("value")
    if kind != "tensor_type":
        raise SystolithError(f"{label} must be for a tensor; the model's is of type {(kind or 'none')[:-5]}")
    if not isinstance(values, np.ndarray | np.generic):
        raise SystolithError(f"{label} must be a NumPy array, not {type(values).__name__}")
    if not port.type.tensor_type.HasField("shape"):
        raise SystolithError(f"{label} must be for an input with a shape; the model's has none")
    values = _typed(port.type.tensor_type.elem_type or TensorProto.FLOAT, np.asarray(values), label)
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in port.type.tensor_type.shape.dim]
    feed = _shaped(values, dims)
    if feed is None:
        names = [
            str(size) if size is not None else dim.dim_param or "?"
            for size, dim in zip(dims, port.type.tensor_type.shape.dim, strict=True)
        ]
        own = f"({', '.join(['samples', *names])})"
        first = "0" if names[:1] == ["0"] else "samples"
        plain = f"({', '.join([first, *names[1:]])}), or {own}" if names else own
        raise SystolithError(f"{label} must have shape {plain}, not {values.shape}")
    if not feed.count:
        raise SystolithError(f"{label} must have at least one sample; its shape is {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise SystolithError(f"{label} must be finite numbers; it has NaN or infinity")
    return feed


def _typed(element: int, values: NDArray, label: str) -> NDArray:
    if element == TensorProto.STRING and values.dtype.kind == "U":
        return values.astype(object)
    expected = onnx.helper.tensor_dtype_to_np_dtype(element)
    if values.dtype != expected:
        raise SystolithError(f"{label} must be {expected}, not {values.dtype}")
    return values


def _shaped(values: NDArray, dims: list[int | None]) -> _Feed | None:
    """The array as runs take it, None if its shape is none that the input can have."""
    behind = values.shape[values.ndim - len(dims) :] if values.ndim >= len(dims) else None
    if behind is None or values.ndim > len(dims) + 1:
        return None
    extra = values.ndim > len(dims)
    fixed = zip(dims, behind, strict=True) if extra else zip(dims[1:], behind[1:], strict=True)
    if any(dim not in (None, size) for dim, size in fixed):
        return None
    if dims and dims[0] == 0 and not extra:
        return _Feed(values[np.newaxis], 1, extra=True) if not len(values) else None
    return _Feed(values, 1 if extra or not dims else dims[0], extra)
