"""Instructions: CONFIG only where constants change, tokens where `order/tokens.py` says, a listing that holds still."""

import numpy as np

from systolith.compiler.pipeline import compile_levels
from systolith.compiler.show import LEVELS, emit
from systolith.config import PRESETS
from systolith.isa import Opcode, decode_program
from tests.support.hand_graphs import conv_graph, random_graph

LISTING = """\
     0  LOAD.W                 region=1 offset=0 sram=0 words=4 target=0 signal=execute
     1  CONFIG.LOAD_A.source   row_pitch=16 height=1 row_step=1 row_bytes=16
     2  CONFIG.LOAD_A.window   step=4 length=4 lane=0 zero_point=0 row_stride=4
     3  LOAD.A                 region=2 offset=0 sram=0 rows=1 cols=4 x0=0 y0=0 signal=execute
     4  CONFIG.EXECUTE.input   height=2 width=2 row_stride=2 block_stride=4 zero_point=89
     5  CONFIG.EXECUTE.kernel  kernel_y=1 kernel_x=1 blocks=1 stride_y=1 stride_x=1 dilation_y=1 dilation_x=1
     6  EXECUTE                act=0 weight=0 y0=0 x0=0 rows=2 cols=2 acc=0 accumulate=0 wait=load_w,load_a signal=sfu
     7  LOAD.W                 region=1 offset=64 sram=0 words=8 target=1 signal=sfu
     8  CONFIG.SFU.output      zero_point=-28 clamp_min=-92 clamp_max=97 lookup=0 row_stride=2 col_stride=1
     9  CONFIG.SFU.input       height=2 width=2 row_stride=2 y0=0 x0=0 pad=0
    10  CONFIG.SFU.window      kernel_y=1 kernel_x=1 stride_y=1 stride_x=1 dilation_y=1 dilation_x=1
    11  SFU                    memory=0 reduce=0 second=0 drain=0 source=0 operand=0 dst=500 rows=2 cols=2 param=0 wait=load_w,execute signal=store
    12  CONFIG.STORE.target    row_pitch=8 row_stride=2
    13  STORE                  region=3 offset=0 sram=500 rows=1 cols=4 wait=sfu
    14  END"""  # noqa: E501


def test_listing():
    graph = conv_graph(np.random.default_rng(0), (1, 3, 2, 2), [{"out": 4, "kernel": (1, 1)}])
    assert emit(compile_levels(graph, PRESETS["tiny4"]), "asm") == LISTING


def test_levels_print():
    compiled = compile_levels(random_graph(np.random.default_rng(5), depth=3), PRESETS["tiny4"])
    for level in LEVELS:
        text = emit(compiled, level)
        assert text and "  \n" not in text


def test_config_only_where_constants_change():
    graph = random_graph(np.random.default_rng(1), depth=3)
    constants: dict = {}
    for instruction in decode_program(compile_levels(graph, PRESETS["tiny4"]).program.code):
        if instruction.form.opcode == Opcode.CONFIG:
            key = instruction.form.name
            assert constants.get(key) != instruction.values
            constants[key] = instruction.values


def test_weights_are_one_stream_for_each_execute():
    """A tile of weights is as the array takes it: word r is input channel r, byte c is output channel c."""
    graph = conv_graph(np.random.default_rng(2), (1, 6, 5, 5), [{"out": 7, "kernel": (3, 2)}])
    weights = graph.layers[0].weights
    compiled = compile_levels(graph, PRESETS["tiny4"])
    loads = [i for i in compiled.instructions if i.form.name == "LOAD.W" and not i["target"]]
    data = np.frombuffer(compiled.program.weights, np.int8)
    tiles = np.concatenate([data[i["offset"] : i["offset"] + 4 * i["words"]].reshape(-1, 4, 4) for i in loads])
    assert len(tiles) == 2 * 3 * 2 * 2
    boxes = compiled.planned[0].plan.boxes
    expected = np.zeros((8, 8, 3, 2), np.int8)
    expected[:7, :6] = weights
    at = 0
    for block in range(2):
        for box in boxes:
            for ky in range(*_range(box.ky)):
                for kx in range(*_range(box.kx)):
                    for b in range(*_range(box.blocks)):
                        tile = expected[4 * block : 4 * block + 4, 4 * b : 4 * b + 4, ky, kx].T
                        assert (tiles[at] == tile).all()
                        at += 1


def _range(part):
    return part[0], part[0] + part[1]
