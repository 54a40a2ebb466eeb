"""`make conformance`: ONNX's own node tests for every operator that the accelerator runs; writes docs/operators.md.

Run: python -m systolith.sim.conformance.node_tests [--config edge16] [--only NAME] [--output docs/operators.md]

A node test is a model of one operator with inputs and outputs. All run with nothing on the host, through the ONNX
backend (systolith/onnx_backend.py):

- Tests whose data has 8 bits, and those of QuantizeLinear and DequantizeLinear: as they are. Outputs must be the
  test's, integers exactly.
- Tests in float32: quantized, calibrated by their own inputs. Outputs must be within one step of the output's scale of
  what the operator gives for the inputs and weights as they were quantized: half a step is the rounding of the output,
  the rest is float32. That is at most `1 step + |f(x') - f(x)|` from the test's own outputs, x' being off by at
  most half a step of its own scale. f is computed by ONNX's reference implementation.

Besides, all must equal golden bit for bit, and ONNX Runtime on the same model: exactly, or within a step where that
computes in float32 (sim/compare/outputs.py).
"""

import argparse
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

from systolith.compiler.frontend.registry import OPERATORS
from systolith.compiler.quantize.quantize import quantize_model
from systolith.config import Config, load_config
from systolith.errors import SystolithError
from systolith.file_io import write_whole
from systolith.onnx_backend import Ready, bind, prepare
from systolith.sim.compare.outputs import check
from systolith.sim.conformance.page import page
from systolith.sim.conformance.quantized_node import quantized_node
from systolith.sim.reference import reference
from systolith.sim.run import run

__all__ = ["NodeTest", "Outcome", "main", "node_tests", "run_test"]

EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)
NEWEST = 23
"""Newest opset that ONNX Runtime has all of."""
ROUNDING = 1e-3
"""Of a step: what float32 adds to it."""


@dataclass(frozen=True)
class NodeTest:
    """One of ONNX's node tests: a model of one `operator`, and pairs of inputs and expected outputs."""

    name: str
    operator: str
    model: ModelProto
    data: tuple[tuple[list[NDArray], list[NDArray]], ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a test; `kind` is "passed", "refused" (by name, before anything runs) or "FAILED"."""

    test: str
    operator: str
    kind: str
    message: str = ""


@cache
def node_tests() -> dict[str, NodeTest]:
    """Tests of one operator that we claim, by name."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # Their inputs are made as they load, some out of range.
        loaded = load_model_tests(kind="node")
    found = {}
    for test in loaded:
        if not test.model or not test.data_sets:
            continue
        nodes = [node for node in test.model.graph.node if node.op_type != "Constant"]
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS and nodes[0].domain in ("", "ai.onnx"):
            data = tuple((_arrays(inputs), _arrays(outputs)) for inputs, outputs in test.data_sets)
            found[test.name] = NodeTest(test.name, nodes[0].op_type, _older(test.model, nodes[0]), data)
    return found


def _older(model: ModelProto, node: NodeProto) -> ModelProto:
    """The same model of an opset that ONNX Runtime has, where the operator is the same in it."""
    (opset,) = (opset for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    since = onnx.defs.get_schema(node.op_type, opset.version).since_version
    opset.version = max(since, min(opset.version, NEWEST))
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    return model


def run_test(name: str, config: Config) -> Outcome:
    """One test on the instruction simulator."""
    test = node_tests()[name]
    try:
        for inputs, expected in test.data:
            if _is_float(test.model):
                _compare_float(test, inputs, expected, config)
            else:
                ready = prepare(test.model, config=config, strict=True).ready(inputs)
                _compare(ready, _run(ready, config), expected, [0] * len(expected), config)
    except Different as error:
        return Outcome(name, test.operator, "FAILED", str(error))
    except SystolithError as error:
        return Outcome(name, test.operator, "refused", str(error).removeprefix("model: "))
    except Exception as error:
        return Outcome(name, test.operator, "FAILED", f"{type(error).__name__}: {error}")
    return Outcome(name, test.operator, "passed")


class Different(Exception):
    """Outputs are not as they must be."""


def _compare_float(test: NodeTest, inputs: list[NDArray], expected: list[NDArray], config: Config) -> None:
    """Quantize, run and compare."""
    bound, rest = prepare(test.model, config=config, quantize=True).split(inputs)
    model = bind(test.model, bound)
    try:
        quantized = onnx.load_from_string(quantize_model(model.SerializeToString(), rest, operators=OPERATORS))
    except SystolithError:
        quantized = model
    kept = [node.op_type for node in quantized.graph.node if not _quantizes(node) and node.op_type != "Constant"]
    if kept != [test.operator] or not any(map(_quantizes, quantized.graph.node)):
        quantized = quantized_node(model, rest, expected)
    ready = prepare(quantized, config=config, strict=True).ready(rest)
    _compare(ready, _run(ready, config), expected, _allowed(quantized, rest, expected), config)


def _run(ready: Ready, config: Config) -> dict[str, NDArray]:
    try:
        return run(ready.network, ready.inputs, config, "isa")[0]
    except SystolithError as error:
        raise Different(str(error)) from None


def _compare(ready: Ready, outputs: dict[str, NDArray], expected: list[NDArray], limits: list, config: Config) -> None:
    """Raise Different where an output is not as it must be."""
    found = check(ready.network, ready.inputs, outputs)
    if not found.passed:
        raise Different(f"golden {found.golden}, ONNX Runtime {found.onnxruntime} elements differ: {found.notes}")
    for (name, mine), wanted, limit in zip(outputs.items(), expected, limits, strict=True):
        if mine.shape != wanted.shape or mine.dtype != wanted.dtype:
            raise Different(f"output '{name}' is {mine.dtype} {mine.shape}, not {wanted.dtype} {wanted.shape}")
        ideal = wanted.astype(np.float64)
        off = np.abs(mine - ideal) - limit
        if (off > 1e-6 * np.abs(ideal)).any():
            far = np.count_nonzero(off > 0)
            raise Different(f"{far} of {off.size} elements are further off than allowed, by up to {off.max()}")


def _allowed(model: ModelProto, inputs: Mapping[str, NDArray], expected: list[NDArray]) -> list[NDArray]:
    """How far outputs of a quantized model may be from the expected ones, element by element."""
    graph = model.graph
    steps = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "DequantizeLinear"}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    limits = []
    for port, ideal, wanted in zip(graph.output, _of_quantized_inputs(model, inputs), expected, strict=True):
        with np.errstate(all="ignore"):
            off = np.abs(np.asarray(ideal, np.float64) - wanted)
        limits.append(off + (1 + ROUNDING) * float(stored[steps[port.name]]))
    return limits


def _of_quantized_inputs(model: ModelProto, inputs: Mapping[str, NDArray]) -> list[NDArray]:
    """What the float operator gives for inputs and weights as they were quantized, by ONNX's own implementation."""
    outer, inner = (onnx.load_from_string(model.SerializeToString()) for _ in range(2))
    known = {*inputs, *(tensor.name for tensor in outer.graph.initializer)}
    first, rest = [], []
    for node in outer.graph.node:
        if _quantizes(node) and known.issuperset(node.input):
            first.append(node)
            known.update(node.output)
        elif _quantizes(node):
            rest.append(helper.make_node("Identity", node.input[:1], node.output))
        else:
            rest.append(node)
    names = [node.output[0] for node in first if node.op_type == "DequantizeLinear"]
    _become(outer, first, outer.graph.input, [_float(name) for name in names])
    _become(inner, rest, [_float(name) for name in names], inner.graph.output)
    values = reference.run(outer.SerializeToString(), inputs)
    return [np.asarray(y) for y in ReferenceEvaluator(inner).run(None, values)]


def _become(model: ModelProto, nodes: list[NodeProto], inputs: Iterable[Any], outputs: Iterable[Any]) -> None:
    """Give a model these nodes, inputs and outputs, some of them its own."""
    graph = onnx.GraphProto(name=model.graph.name, initializer=model.graph.initializer)
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    model.graph.CopyFrom(graph)


def _float(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _is_float(model: ModelProto) -> bool:
    """Whether a test's data is float32 and its operator none that quantizes."""
    kinds = {port.type.tensor_type.elem_type for port in (*model.graph.input[:1], *model.graph.output)}
    return kinds == {TensorProto.FLOAT} and not any("Linear" in node.op_type for node in model.graph.node)


def _quantizes(node: NodeProto) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")


def _arrays(values: Iterable[Any]) -> list[NDArray]:
    return [numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value) for value in values]


def conformance(config: Config, workers: int, names: list[str]) -> Iterator[Outcome]:
    """Outcomes of tests, in their order."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_test, names, [config] * len(names), chunksize=8)


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 1 if a test failed."""
    parser = argparse.ArgumentParser(
        prog="systolith.sim.conformance.node_tests", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--config", default="edge16", help="preset, or a .toml file")
    parser.add_argument("--only", help="one test, by name; writes no page")
    parser.add_argument("--output", type=Path, default=Path("docs/operators.md"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    config = load_config(options.config)
    if options.only:
        outcomes = [run_test(options.only, config)]
    else:
        outcomes = list(conformance(config, options.workers, list(node_tests())))
        write_whole(options.output, page(outcomes, config).encode())
    failed = [outcome for outcome in outcomes if outcome.kind == "FAILED"]
    for outcome in outcomes if options.only else failed:
        print(f"{outcome.test}: {outcome.kind} {outcome.message}")
    counts = {kind: sum(outcome.kind == kind for outcome in outcomes) for kind in ("passed", "refused", "FAILED")}
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
