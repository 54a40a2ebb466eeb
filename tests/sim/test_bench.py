"""The benchmark of single layers, on a small one: the parts add up to all cycles, and outputs are right."""

import pytest

from systolith import PRESETS
from systolith.benchmarks import layers
from systolith.benchmarks.layers import Layer

TINY = PRESETS["tiny4"]


@pytest.mark.rtl
def test_the_parts_of_a_layer_add_up():
    report = layers.measure(Layer(3, 8, 6, 7, 2), TINY)
    assert report["macs"] == 6 * 4 * 4 * 9 * 8
    assert report["mismatches"]["golden"] == 0
    losses = layers.losses(report, TINY)
    assert sum(losses) + report["utilization"] == pytest.approx(1)
    assert min(losses) >= 0


def test_layers_of_the_project_are_measured():
    assert [layer.name for layer in layers.LAYERS[:2]] == ["3x3  64 -> 64  56x56", "1x1  256 -> 256  14x14"]
