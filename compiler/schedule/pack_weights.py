"""Packing of weights and parameters into region WEIGHTS: a stream for each EXECUTE, a word for each output block."""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir.graph import Conv
from systolith.compiler.jobs.job import Job, KSlice

__all__ = ["pack_parameter", "pack_parameters", "pack_weights"]

PARAMETER = np.dtype([("bias", "<i4"), ("scale", "<f4")])


def pack_weights(job: Job, block: int, box: KSlice) -> bytes:
    """K tiles of an output block as the array takes them: ky, kx, input block, input channel, output channel; or the
    taps of the depthwise unit: ky, kx, channel."""
    assert job.weights is not None
    (ky, kys), (kx, kxs), (first, blocks) = box.ky, box.kx, box.blocks
    return job.weights[block, ky : ky + kys, kx : kx + kxs, first : first + blocks].tobytes()


def pack_parameter(bias: int, scale: np.float32, array: int) -> bytes:
    """The same bias and scale for every channel of a block."""
    return np.array([(bias, scale)] * array, PARAMETER).tobytes()


def pack_parameters(layer: Conv, zero_point: int, array: int) -> bytes:
    """Bias, with the input's zero point folded in, and scale of each output channel; unused lanes have 0 and 1.0."""
    bias = _folded_bias(layer, zero_point)
    words = np.zeros(-(-len(bias) // array) * array, PARAMETER)
    words["scale"] = 1.0
    words["bias"][: len(bias)] = bias
    words["scale"][: len(bias)] = layer.scale
    return words.tobytes()


def _folded_bias(layer: Conv, zero_point: int) -> NDArray[np.int64]:
    """bias - zero_point * sum(weights), which fits int32 (`compiler/passes/prove_accumulators.py`)."""
    sums = layer.weights.reshape(len(layer.weights), -1).sum(axis=1, dtype=np.int64)
    return layer.bias.astype(np.int64) - zero_point * sums
