"""ONNX models: fields, nodes and bytes changed; what compiles computes what ONNX Runtime does."""

from math import prod
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto

from systolith.cli.run import load_network
from systolith.config import PRESETS
from systolith.sim.compare.outputs import check
from systolith.sim.fuzz import models, protobuf
from systolith.sim.fuzz.case import Case, Wrong
from systolith.sim.fuzz.damage import damaged_bytes, few
from systolith.sim.run import run
from systolith.sim.stimulus.inputs import random_inputs

__all__ = ["judge", "make"]

TINY, LARGER = PRESETS["tiny4"], PRESETS["edge16"]
LARGE = 1 << 17
"""Elements of inputs from which a model is for the larger configuration: the smaller one takes a minute for it."""


def make(seed: int) -> Case:
    """One of the seed models, changed."""
    rng = np.random.default_rng(seed)
    data = models.seed_model(int(rng.integers(models.COUNT)))
    if rng.random() < 0.2:
        return Case(damaged_bytes(rng, data), ".onnx", "bytes")
    model = ModelProto.FromString(data)
    changes = [protobuf.damage(rng, model) for _ in range(few(rng))]
    try:
        return Case(model.SerializeToString(), ".onnx", ", ".join(changes))
    except (DecodeError, EncodeError, ValueError):
        return Case(data, ".onnx", "nothing")


def judge(case: Case, folder: Path) -> str:
    """Compile it; run it on the instruction simulator; compare."""
    path = folder / "case.onnx"
    path.write_bytes(case.data)
    config = LARGER if _elements(case.data) >= LARGE else TINY
    network = load_network(path, config, 1)
    inputs = random_inputs(network, 1)
    outputs, _ = run(network, inputs, config, "isa")
    found = check(network, inputs, outputs, case.data)
    if not found.passed:
        raise Wrong(f"{case.change}: {found}")
    return "right" if found.onnxruntime is not None else "without a reference"


def _elements(data: bytes) -> int:
    """Of all inputs of a model, open dimensions counted as 1; none of what is no model."""
    try:
        ports = ModelProto.FromString(data).graph.input
    except DecodeError:
        return 0
    return sum(prod(max(dim.dim_value, 1) for dim in port.type.tensor_type.shape.dim) for port in ports)
