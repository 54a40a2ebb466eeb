"""Top-1 accuracy of a classifier under ONNX Runtime, for a float model beside what it was quantized to."""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.quantize.calibration import Samples
from systolith.errors import SystolithError
from systolith.sim.reference import reference

__all__ = ["check_labels", "correct"]


def check_labels(labels: NDArray, samples: int) -> None:
    """Raises SystolithError unless there is a class number for each sample."""
    if labels.dtype.kind not in "iu" or labels.shape != (samples,):
        raise SystolithError(
            f"Labels must be integers, one for each of {samples} samples, not {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0:
        raise SystolithError(f"Labels must be class numbers from 0 on, not {labels.min()}")


def correct(model: bytes, samples: Samples, labels: NDArray) -> int:
    """Samples whose largest score, in the model's first output, is at their label."""
    session = reference.session(model)
    name = session.outputs[0].name
    found = []
    for batch in samples:
        scores = reference.run(session, batch)[name]
        if scores.ndim < 2 or len(scores) != samples.batch:
            raise SystolithError(
                f"Output '{name}' must have scores for each of {samples.batch} samples, not shape {scores.shape}"
            )
        found.append(scores.reshape(samples.batch, -1).argmax(axis=1))
        if labels.max() >= scores[0].size:
            raise SystolithError(f"Labels must be below the {scores[0].size} classes of '{name}', not {labels.max()}")
    return int((np.concatenate(found)[: samples.count] == labels).sum())
