"""Tensors, windows and layers at the limits of instruction fields: right, or refused in a line that names the layer."""

import pytest

from systolith.compiler.pipeline import compile_levels
from systolith.errors import SystolithError, UnsupportedError
from tests.support.against_golden import agrees
from tests.support.graph_builder import Network
from tests.support.hand_graphs import CONFIGS


def network(dims, kernel=(1, 1), **window):
    net = Network(dims)
    return net.graph(net.conv(net.x, 4, kernel, **window))


@pytest.mark.parametrize(("dims", "window"), [
    ((1, 3, 9000, 1), {"kernel": (3, 1)}),
    ((1, 1, 1, 6000), {"kernel": (1, 9)}),
    ((1, 1, 1, 40000), {"kernel": (1, 3), "stride": (1, 2)}),
    ((1, 1, 1, 6000), {"stride": (1, 4)}),
    ((1, 1, 18000, 1), {"stride": (4, 1)}),
    ((1, 3, 1, 600), {"kernel": (1, 2), "stride": (1, 255)}),
    ((1, 3, 1, 600), {"kernel": (1, 3), "dilation": (1, 255)}),
    ((1, 3, 1, 300), {"kernel": (1, 257)}),
    ((1, 3, 4, 1), {"kernel": (3, 1), "pads": (8191, 0, 8191, 0), "stride": (255, 1)})])  # fmt: skip
def test_long_and_right(dims, window):
    agrees(network(dims, **window), CONFIGS["edge16"])


@pytest.mark.parametrize("dims", [(1, 1, 1, 20000), (1, 1, 20000, 1)])
def test_what_a_tile_reads_fits_an_instruction(dims):
    """With large memories it is the fields of the input's height and width that limit a tile."""
    stride = tuple(5 if size > 1 else 1 for size in dims[2:])
    compiled = agrees(network(dims, stride=stride), CONFIGS["tpu256"])
    assert any(i.form.name == "LOAD.A" for i in compiled.instructions)


@pytest.mark.parametrize(("dims", "window", "message"), [
    ((1, 3, 4, 1), {"kernel": (3, 1), "pads": (8192, 0, 0, 0)}, "pads of up to 8191, not (8192, 0, 0, 0)"),
    ((1, 3, 1, 600), {"kernel": (1, 2), "stride": (1, 256)}, "strides and dilations up to 255"),
    ((1, 3, 1, 600), {"kernel": (1, 3), "dilation": (1, 256)}, "strides and dilations up to 255"),
])  # fmt: skip
def test_too_large(dims, window, message):
    with pytest.raises(UnsupportedError) as error:
        compile_levels(network(dims, **window), CONFIGS["tiny4"])
    assert str(error.value).startswith("Layer 'conv0' must ") and message in str(error.value)
    assert error.value.node == "conv0"


def test_a_tensor_of_millions_of_tiles():
    with pytest.raises(SystolithError, match=r"^Tensor 'x0' must have at most 268435456 elements"):
        compile_levels(network((1, 3, 20000, 20000), kernel=(3, 3)), CONFIGS["tiny4"])
