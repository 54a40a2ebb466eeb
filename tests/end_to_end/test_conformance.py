"""ONNX's node tests, those of quantized operators and some others; docs/operators.md lists what the front end takes."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import systolith
from systolith import onnx_backend
from systolith.compiler.frontend.registry import MICROSOFT, OPERATORS
from systolith.compiler.network import compile_network
from systolith.config import PRESETS
from systolith.errors import SystolithError
from systolith.sim.conformance import node_tests as conformance
from systolith.sim.conformance.node_tests import node_tests, run_test
from systolith.sim.conformance.page import LIMITS, MICROSOFT_ATTRIBUTES, PLACES, attributes_of, page
from systolith.sim.conformance.quantized_node import quantized_node

PAGE = Path(systolith.__file__).parents[1] / "docs" / "operators.md"
SOME = Path(__file__).with_name("node_tests.txt").read_text(encoding="utf-8").split()
"""Names; ONNX takes seconds to make its node tests, so they are not made where tests are only listed."""
ROW = re.compile(r"^\| (\w+) \| (.*?) \| (.*?) \| (\d+) \| (\d+) \| (\d+) \|$", re.M)
CHANGED = {
    ("BatchNormalization", "training_mode"): 1, ("DequantizeLinear", "block_size"): 2, ("Pad", "mode"): "reflect",
    ("QuantizeLinear", "block_size"): 2, ("QuantizeLinear", "precision"): 1, ("QuantizeLinear", "saturate"): 0,
    ("Resize", "antialias"): 1, ("Resize", "coordinate_transformation_mode"): "tf_crop_and_resize",
    ("Resize", "keep_aspect_ratio_policy"): "not_larger", ("Resize", "mode"): "cubic",
}  # fmt: skip
"""Values that are not honoured."""


@pytest.mark.slow
def test_some_are_all_of_quantized_operators_and_each_20th_of_the_others():
    quantized = [name for name, test in node_tests().items() if "Linear" in test.operator]
    others = [name for name in node_tests() if name not in quantized]
    more = ["test_conv_with_strides_padding", "test_averagepool_2d_pads", "test_relu"]
    assert list(dict.fromkeys([*quantized, *others[::20], *more])) == SOME


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_node_tests(name):
    outcome = run_test(name, PRESETS["tiny4"])
    print(outcome)
    assert outcome.kind in ("passed", "refused"), outcome.message


@pytest.mark.slow
def test_page_lists_what_we_claim():
    rows = {row[0]: row[1:] for row in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert tuple(rows) == OPERATORS
    for operator, (attributes, place, passed, refused, failed) in rows.items():
        assert attributes == attributes_of(operator)
        assert place == PLACES.get(operator, "SFU (table)")
        assert failed == "0"
        assert int(passed) + int(refused) == sum(test.operator == operator for test in node_tests().values())
    assert sum(int(row[2]) for row in rows.values()) >= 230


def test_page_has_reasons():
    outcomes = [conformance.Outcome("test_celu", "Celu", "refused", "Celu 'y': must be x, not 3"),
                conformance.Outcome("test_celu_4", "Celu", "refused", "Celu 'z': must be x, not 4"),
                conformance.Outcome("test_conv", "Conv", "passed"),
                conformance.Outcome("test_conv_2", "Conv", "FAILED", "oh")]  # fmt: skip
    text = page(outcomes, PRESETS["tiny4"])
    assert "1 passed, 2 refused, 1 failed" in text
    assert "### Celu\n\n- Must be x, not 3: `celu`, `celu_4`\n" in text
    assert ("Conv", "1", "0", "1") in [(row[0], *row[3:]) for row in ROW.findall(text)]


def test_limits_and_places_are_of_operators():
    assert PLACES.keys() | LIMITS.keys() | MICROSOFT_ATTRIBUTES.keys() <= set(OPERATORS)
    assert MICROSOFT_ATTRIBUTES.keys() <= set(MICROSOFT)
    for operator, limits in LIMITS.items():
        known = (
            MICROSOFT_ATTRIBUTES.get(operator, ())
            if operator in MICROSOFT
            else onnx.defs.get_schema(operator).attributes
        )
        assert limits.keys() <= set(known)


@pytest.mark.slow
@pytest.mark.parametrize(("operator", "attribute"), CHANGED, ids=lambda name: name)
def test_limited_attributes_are_refused_by_name(operator, attribute):
    test = next(test for test in node_tests().values() if test.operator == operator and attribute in _attributes(test))
    inputs, expected = test.data[0]
    prepared = onnx_backend.prepare(test.model, config="tiny4", quantize=True)
    bound, rest = prepared.split(inputs)
    model = onnx_backend.bind(test.model, bound)
    if "Linear" not in operator:
        model = quantized_node(model, rest, expected)
    (node,) = (node for node in model.graph.node if node.op_type == operator)
    kept = [given for given in node.attribute if given.name != attribute]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(helper.make_attribute(attribute, CHANGED[operator, attribute]))
    with pytest.raises(SystolithError, match=f"attributes? .*'{attribute}'"):
        compile_network(model.SerializeToString(), PRESETS["tiny4"], strict=True)


def _attributes(test: conformance.NodeTest):
    return onnx.defs.get_schema(test.operator, test.model.opset_import[0].version).attributes


@pytest.mark.slow
def test_a_wrong_output_fails(monkeypatch):
    """The comparison sees one step too many, and a wrong shape."""
    name = "test_relu"
    assert run_test(name, PRESETS["tiny4"]).kind == "passed"
    right = conformance.run

    def shifted(*arguments):
        outputs, report = right(*arguments)
        return {key: values + np.float32(0.04) for key, values in outputs.items()}, report

    monkeypatch.setattr(conformance, "run", shifted)
    monkeypatch.setattr(conformance, "check", lambda *_: _Passed())
    assert "further off than allowed" in run_test(name, PRESETS["tiny4"]).message


class _Passed:
    passed = True
