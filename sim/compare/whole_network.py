"""A second opinion on a network in parts: its whole model under ONNX Runtime, unoptimized, as if there were no parts.

Only what the accelerator makes is taken from it, by the golden model: every 8-bit tensor inside its parts replaces the
one that ONNX Runtime would have made, and is compared with that, within one step. All else, host parts and how they are
connected above all, is computed anew from the network's own ONNX file, and must be what the run gave: integers and
bools exactly, float32 within its rounding.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from systolith.network import Network
from systolith.program import Program
from systolith.sim.reference import unoptimized
from systolith.sim.reference.layerwise import inner_tensors
from systolith.sim.stimulus.model_writer import port
from systolith.sim.stimulus.subgraphs import needed

__all__ = ["Judgement", "has_values", "judge"]

Arrays = Mapping[str, NDArray]
RELATIVE = 1e-5
"""Difference of float32 outputs, by the largest of them; 100 times that for float16."""


@dataclass(frozen=True)
class Judgement:
    """What is wrong, a line for each tensor; and of `elements` of the accelerator, how many differ by one step."""

    wrong: tuple[str, ...]
    elements: int
    stepped: int

    @property
    def passed(self) -> bool:
        return not self.wrong


def judge(network: Program | Network, inputs: Arrays, outputs: Arrays) -> Judgement:
    """Outputs of a run against the whole model. Raises RefusedError where ONNX Runtime has no values for it."""
    whole = onnx.load_from_string(network.model)
    cuts = _accelerated(network, whole, inputs)
    names = list(dict.fromkeys(port.name for port in whole.graph.output))
    found = _evaluated(whole, inputs, cuts, [*names, *map(_anew, cuts)])
    wrong, stepped = [], 0
    for name, values in cuts.items():
        steps = np.abs(values.astype(np.int16) - found[_anew(name)].astype(np.int16))
        stepped += int((steps == 1).sum())
        if steps.max(initial=0) > 1:
            wrong.append(f"'{name}' of the accelerator: {(steps > 1).sum()} of {steps.size}, up to {steps.max()} steps")
    if list(outputs) != names:
        wrong.append(f"outputs {list(outputs)} must be {names}")
    for name in [name for name in names if name in outputs]:
        if message := _difference(outputs[name], found[name]):
            wrong.append(f"output '{name}': {message}")
    return Judgement(tuple(wrong), sum(values.size for values in cuts.values()), stepped)


def has_values(network: Program | Network, inputs: Arrays) -> bool:
    """Whether ONNX Runtime computes the whole model for these inputs, with what the accelerator makes of them."""
    whole = onnx.load_from_string(network.model)
    try:
        cuts = _accelerated(network, whole, inputs)
        _evaluated(whole, inputs, cuts, [port.name for port in whole.graph.output])
    except unoptimized.RefusedError:
        return False
    return True


def _accelerated(network: Program | Network, whole: ModelProto, inputs: Arrays) -> dict[str, NDArray]:
    """Every 8-bit tensor of the model that the accelerator makes, on the way to its outputs or as one."""
    made = {name for node in whole.graph.node for name in node.output}
    cuts: dict[str, NDArray] = {}
    for part in network.programs:
        mine = _evaluated(whole, inputs, cuts, [port.name for port in part.inputs])
        inner = inner_tensors(part, mine)
        cuts |= {name: values for name, values in inner.items() if name in made}
    return cuts


def _anew(name: str) -> str:
    """The name of what the model itself makes of a tensor that is given."""
    return f"{name} anew"


def _evaluated(whole: ModelProto, inputs: Arrays, cuts: Arrays, names: Collection[str]) -> dict[str, NDArray]:
    """Tensors of the model, with given values for `cuts`; `_anew(name)` is what it makes of such a one itself."""
    model = ModelProto()
    model.CopyFrom(whole)
    graph = model.graph
    for node in graph.node:
        node.output[:] = [_anew(name) if name in cuts else name for name in node.output]
    given = {**inputs, **cuts}
    missing = [name for name in names if name not in given]
    nodes = needed(graph.node, missing)
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.extend(port(name, values.dtype, None) for name, values in cuts.items())
    graph.output.extend(ValueInfoProto(name=name) for name in missing)
    results = unoptimized.run(model.SerializeToString(), given) if missing else []
    return {**{name: given[name] for name in names if name in given}, **dict(zip(missing, results, strict=True))}


def _difference(mine: NDArray, theirs: NDArray) -> str:
    """How an output differs from what it must be; empty if it does not."""
    if (mine.shape, mine.dtype) != (theirs.shape, theirs.dtype):
        return f"{mine.dtype} {mine.shape} must be {theirs.dtype} {theirs.shape}"
    near = mine == theirs
    if mine.dtype.kind == "f":
        limit = RELATIVE * (100 if mine.dtype == np.float16 else 1)
        near = np.isclose(mine, theirs, rtol=limit, atol=limit * float(np.abs(theirs).max(initial=0)), equal_nan=True)
    return f"{(~near).sum()} of {near.size} differ" if not near.all() else ""
