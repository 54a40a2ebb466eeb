"""docs/operators.md: what of ONNX runs where, and how ONNX's node tests went (sim/conformance/node_tests.py)."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

import onnx

from systolith.compiler.frontend.registry import MICROSOFT, OPERATORS
from systolith.config import Config

__all__ = ["LIMITS", "PLACES", "attributes_of", "page"]

ARRAY, BOTH, SFU, TABLE = "array", "array or depthwise unit", "SFU", "SFU (table)"
ADDRESS, BETWEEN, COMPILER, ENDS = "address only", "address; SFU or array", "compiler", "scales; host at both ends"
PLACES = {
    **dict.fromkeys(("Conv", "QLinearConv"), BOTH),
    **dict.fromkeys(("ConvTranspose", "Gemm", "MatMul", "QGemm", "QLinearMatMul"), ARRAY),
    **dict.fromkeys(("BatchNormalization",), "folded; array or depthwise unit"),
    **dict.fromkeys(
        ("Add", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Mul", "QLinearAdd",
         "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearMul", "ReduceMax", "ReduceMean", "Sub", "Sum"), SFU),
    **dict.fromkeys(
        ("Concat", "DepthToSpace", "Gather", "Pad", "QLinearConcat", "Resize", "Slice", "SpaceToDepth", "Split"),
        BETWEEN),
    **dict.fromkeys(
        ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"), ADDRESS),
    **dict.fromkeys(("Constant", "Shape", "Size"), COMPILER),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), ENDS),
    **dict.fromkeys(("Clip", "Relu"), "fused limits, or SFU"),
}  # fmt: skip
"""Where an operator runs; one that is not here is a function of one tensor, which becomes a table of the SFU."""

LIMITS = {
    "BatchNormalization": {"momentum": "ignored", "training_mode": "0"},
    "Constant": {"sparse_value": "refused", "value_string": "refused", "value_strings": "refused"},
    "DequantizeLinear": {"axis": "of weights", "block_size": "0", "output_dtype": "float32"},
    "Dropout": {"seed": "ignored"},
    "MaxPool": {"storage_order": "ignored, for Indices are refused"},
    "Pad": {"mode": "constant"},
    "QuantizeLinear": {"axis": "ignored, for there is one scale", "block_size": "0", "output_dtype": "int8, uint8",
                       "precision": "0", "saturate": "1"},
    "Resize": {"antialias": "0", "coordinate_transformation_mode": "all but tf_crop_and_resize",
               "cubic_coeff_a": "ignored", "exclude_outside": "ignored", "extrapolation_value": "ignored",
               "keep_aspect_ratio_policy": "stretch", "mode": "nearest; linear of size 1"},
    "SpaceToDepth": {"mode": "DCR"},
}  # fmt: skip
"""Attributes of which only some values are honoured. All others are honoured, whatever they are."""
POOL = ("auto_pad", "ceil_mode", "channels_last", "count_include_pad", "kernel_shape", "pads", "strides")
MICROSOFT_ATTRIBUTES = {
    "QGemm": ("alpha", "transA", "transB"), "QLinearAveragePool": POOL, "QLinearConcat": ("axis",),
    "QLinearGlobalAveragePool": ("channels_last",), "QLinearLeakyRelu": ("alpha",),
}  # fmt: skip
INTRODUCTION = """\
# Operators

<!-- Made by `make conformance`. -->

Every ONNX operator that runs on the accelerator, and what becomes of ONNX's own node tests of it (onnx {version},
configuration `{config}`). All tests run with nothing on the host, on the instruction simulator, through the ONNX
backend `systolith.onnx_backend`. Each is passed, refused by name before anything runs, or failed: {counts}.

Tests of quantized operators run as they are, and give exactly their outputs. Tests in float32 are quantized to int8
with the scales of their own inputs, and give what ONNX's reference implementation gives, within one step of the
output's scale (half a step is rounding) beyond what quantizing the inputs and weights changes in it. All are bit-equal
to the golden model, and to ONNX Runtime where that computes in integers.

What is refused here runs on the host, under ONNX Runtime, when it is part of a network that is compiled without
`--strict`.

Places: the systolic array; the depthwise unit where the configuration has one; the SFU, which also runs fused with what
the array does; a table of 256 entries in the SFU, for functions of one tensor (with a constant for each channel, and
linear: the array or the depthwise unit); "address only" is a change of where elements are looked for. Operators of
`com.microsoft` have no node tests; tests of the project hold them to ONNX Runtime.
"""


class Outcome(Protocol):
    """As sim/conformance/node_tests.py has it."""

    @property
    def test(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def message(self) -> str: ...


def page(outcomes: Sequence[Outcome], config: Config) -> str:
    """The page."""
    kinds = ("passed", "refused", "FAILED")
    counts = ", ".join(f"{sum(o.kind == kind for o in outcomes)} {kind.lower()}" for kind in kinds)
    lines = [INTRODUCTION.format(version=onnx.__version__, config=config.name, counts=counts)]
    lines += [
        "| operator | attributes honoured | where it runs | passed | refused | failed |",
        "|---|---|---|--:|--:|--:|",
    ]
    for operator in OPERATORS:
        numbers = (str(sum((o.operator, o.kind) == (operator, kind) for o in outcomes)) for kind in kinds)
        cells = (operator, attributes_of(operator), PLACES.get(operator, TABLE), *numbers)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Refusals", "", *_refusals(o for o in outcomes if o.kind == "refused")]
    return "\n".join([*lines, ""])


def attributes_of(operator: str) -> str:
    """Attributes of the newest version of an operator, with what is honoured of them if that is not all."""
    known = MICROSOFT_ATTRIBUTES.get(operator, ())
    if operator not in MICROSOFT:
        known = onnx.defs.get_schema(operator).attributes
    limits = LIMITS.get(operator, {})
    return ", ".join(f"{name} ({limits[name]})" if name in limits else name for name in sorted(known))


def _refusals(outcomes: Iterable[Outcome]) -> list[str]:
    """Reasons, and the tests that each is given for."""
    grouped: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        reason = _reason(outcome)
        grouped[outcome.operator][re.sub(r"-?\d+(\.\d+)?", "#", reason)].append(outcome)
    lines = []
    for operator in sorted(grouped):
        lines += [f"### {operator}", ""]
        for group in grouped[operator].values():
            tests = ", ".join(f"`{outcome.test.removeprefix('test_')}`" for outcome in group)
            lines.append(f"- {_reason(group[0])}: {tests}")
        lines.append("")
    return lines[:-1]


def _reason(outcome: Outcome) -> str:
    """The message without what is the same in all: nothing else is in the model."""
    text = outcome.message.removeprefix("nothing of it can run on the accelerator; ").split("; no host can run it: ")[0]
    text = re.sub(rf"^{outcome.operator} '[^']*': ", "", text)
    return text[:1].upper() + text[1:].replace("|", "\\|")
