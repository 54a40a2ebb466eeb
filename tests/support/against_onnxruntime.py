"""Golden model against ONNX Runtime on one model: what tests of the front end share."""

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.ir.graph import Graph
from systolith.sim.golden import golden
from systolith.sim.reference import reference
from systolith.sim.stimulus.model_writer import ModelWriter

__all__ = ["agree", "any_of", "differences", "finish", "output", "unoptimized", "value"]

Arrays = Mapping[str, NDArray]
Run = Callable[[bytes, Arrays], Arrays]


def unoptimized(model: bytes, inputs: Arrays) -> Arrays:
    """Outputs by name as each operator's own kernel has them: the reference where a fused one is wrong."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return {name: np.asarray(y) for name, y in zip(names, session.run(names, dict(inputs)), strict=True)}


def differences(
    model: bytes, rng: np.random.Generator, batch: int = 1, run: Run = reference.run
) -> tuple[Graph, np.ndarray]:
    """The graph of a model with 8-bit outputs, and by how many steps its results are off, for random inputs."""
    graph = import_model(model, batch=batch)
    inputs = {port.name: any_of(rng, np.dtype(port.dtype), port.shape) for port in graph.inputs}
    mine, theirs = golden.run(graph, inputs), run(model, inputs)
    assert {name: y.shape for name, y in mine.items()} == {name: y.shape for name, y in theirs.items()}
    off = [mine[name].astype(np.int64) - theirs[name].astype(np.int64) for name in theirs]
    return graph, np.abs(np.concatenate([values.reshape(-1) for values in off]))


def agree(model: bytes, rng: np.random.Generator, batch: int = 1, steps: int = 0, run: Run = reference.run) -> Graph:
    """The graph of a model whose every output is as ONNX Runtime has it, or at most `steps` off."""
    graph, off = differences(model, rng, batch, run)
    wrong = np.count_nonzero(off > steps)
    assert reference.saturates() or not wrong, f"{wrong} of {off.size} differ, by up to {off.max()}"
    return graph


def finish(writer: ModelWriter, y: str, scale: float, zero_point: np.generic, rank: int = 4) -> bytes:
    """The model whose output is QuantizeLinear of `y`, of any shape of that rank."""
    return output(writer, writer.quantize(y, scale, zero_point), zero_point.dtype, rank)


def output(writer: ModelWriter, y: str, dtype: np.dtype, rank: int = 4) -> bytes:
    """The model whose output is `y`, likewise."""
    writer.output(y, dtype, [f"size{i}" for i in range(rank)])
    return writer.model()


def value(rng: np.random.Generator, dtype: np.dtype) -> np.generic:
    """A random zero point."""
    return any_of(rng, dtype, (1,))[0]


def any_of(rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Random values of an 8-bit type."""
    limits = np.iinfo(dtype)
    return np.asarray(rng.integers(limits.min, limits.max, shape, endpoint=True)).astype(dtype)
