"""Printed levels of a small network, held by files in `levels/`; `python -m tests.compiler.test_show` writes them."""

from pathlib import Path

import pytest

from systolith.compiler.ir.text import graph_text
from systolith.compiler.pipeline import Compiled, compile_levels
from systolith.compiler.report.memory_map import memory_map
from systolith.compiler.show import LEVELS, emit
from systolith.config import PRESETS
from systolith.errors import SystolithError
from tests.support.graph_builder import Network, random_network
from tests.support.seeds import each_seed, many

FOLDER = Path(__file__).parent / "levels"


def small_network() -> Compiled:
    """A residual block, a depthwise convolution, a pool, and a concatenation of parts that end within blocks."""
    net = Network((1, 3, 6, 6), seed=1)
    x = net.conv(net.x, 4, pads=(1, 1, 1, 1))
    y = net.conv(x, 4, pads=(1, 1, 1, 1))
    x = net.clip(net.add(y, x), -128, 100)
    a = net.pool(net.depthwise(x, pads=(1, 1, 1, 1)), kernel=(2, 2), stride=(2, 2))
    b = net.pool(net.table(net.conv(x, 6, (1, 1))), "average", kernel=(2, 2), stride=(2, 2))
    return compile_levels(net.graph(net.conv(net.shuffle(net.concat(b, a), 2), 5, (3, 3))), PRESETS["tiny4"])


@pytest.mark.parametrize("level", LEVELS)
def test_levels(level):
    assert emit(small_network(), level) + "\n" == (FOLDER / f"{level}.txt").read_text(encoding="utf-8")


def test_unknown_level():
    with pytest.raises(SystolithError, match="Level must be one of graph, tiles, schedule, asm, memory, not 'dot'"):
        emit(small_network(), "dot")


def test_a_graph_before_lowering():
    net = Network((1, 4, 3, 3))
    parts = net.concat(net.pool(net.x, "average", kernel=(3, 3)), net.pool(net.x, kernel=(3, 3)), axis=3)
    text = graph_text(net.graph(net.select(net.multiply(parts, parts), [0, 1, 3, 3])))
    assert [line.partition(" (scale")[0] + line.partition(")")[2] for line in text.splitlines()] == [
        "graph test",
        "input x0: int8[1, 4, 3, 3] -> x0 [1, 4, 3, 3]",
        "Pool average0: x0 -> average0 [1, 4, 1, 1] average 3x3",
        "Pool max1: x0 -> max1 [1, 4, 1, 1] max 3x3",
        "Concat concat2: average0, max1 -> concat2 [1, 4, 1, 2] axis 3",
        "Mul mul3: concat2, concat2 -> mul3 [1, 4, 1, 2] times concat2",
        "Split select4: mul3 -> select4 [1, 4, 1, 2] channels 0-1, 3, 3",
        "output select4: select4 -> int8[1, 4, 1, 2]",
    ]


def test_meta_says_what_each_layer_is():
    layers = small_network().program.meta["layers"]
    assert [layer["unit"] for layer in layers] == ["array"] * 4 + ["sfu", "array"]
    assert [layer["fused"] for layer in layers] == [[], ["add"], ["pool"], ["table"], [], []]
    assert [layer["macs"] for layer in layers] == [3888, 5184, 1296, 864, 0, 450]
    assert [layer["ops"] for layer in layers] == [144, 288, 144, 288, 288, 5]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny4", "edge16"])
def test_maps_fit_the_page_and_show_every_tensor(name):
    for seed in each_seed(range(many(10))):
        compiled = compile_levels(random_network(seed, depth=8), PRESETS[name])
        meta = compiled.program.meta
        text = memory_map(meta)
        assert max(map(len, text.splitlines())) <= 100
        resident = [item for item in meta["memory"]["tensors"].values() if item["sram"] is not None]
        assert sum("KiB  " in line and "[" in line for line in text.splitlines()) == len(resident)
        assert 0 < meta["memory"]["peak_words"] <= PRESETS[name].act_depth


def test_a_spilled_tensor_is_shown():
    net = Network((1, 8, 24, 24))
    compiled = compile_levels(net.graph(net.conv(net.conv(net.x, 8), 8)), PRESETS["tiny4"])
    text = memory_map(compiled.program.meta)
    assert "spilled: 1 tensors in 3,904 bytes of scratch memory\n      SCRATCH+0 " in text


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in LEVELS:
        (FOLDER / f"{name}.txt").write_text(emit(small_network(), name) + "\n", encoding="utf-8")
