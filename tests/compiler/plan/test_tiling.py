"""Plans: they cover every output and K tile once, fit what they are given, and refuse what cannot fit."""

from dataclasses import replace

import numpy as np
import pytest

from systolith.compiler.jobs.array import plain, touched_blocks
from systolith.compiler.jobs.candidates import candidates
from systolith.compiler.plan import tiling
from systolith.compiler.plan.placement import Place
from systolith.compiler.plan.tiling import Keep, Room, choose_plan, input_span, split_kernel
from systolith.compiler.schedule.loads import Buffer, InputLoads
from systolith.config import PRESETS
from systolith.errors import SystolithError, UnsupportedError
from systolith.isa import Region, encode, make
from tests.support.against_golden import agrees
from tests.support.graph_builder import Network
from tests.support.hand_graphs import CONFIGS, conv_graph, random_graph
from tests.support.seeds import seeds


def job_of(dims, array=4, **layer):
    graph = conv_graph(np.random.default_rng(0), dims, [layer])
    return plain(graph, 0, graph.layers[0], array)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 12, 100])
def test_boxes_cover_each_k_tile_once(limit):
    job = job_of((1, 17, 9, 9), out=4, kernel=(3, 4))
    seen = np.zeros((3, 4, job.blocks), int)
    for box in split_kernel(job, limit):
        assert box.tiles <= limit
        (ky, kys), (kx, kxs), (b, bs) = box.ky, box.kx, box.blocks
        seen[ky : ky + kys, kx : kx + kxs, b : b + bs] += 1
    assert (seen == 1).all()


def test_input_span_is_what_a_tile_reads():
    rng = np.random.default_rng(3)
    for _ in range(500):
        first, count, stride, pad, taps, dilation, size = (int(n) for n in rng.integers(1, 8, 7))
        span = input_span(first, count, stride, pad, (0, taps), dilation, size)
        reads = [(first + o) * stride - pad + t * dilation for o in range(count) for t in range(taps)]
        inside = [r for r in reads if 0 <= r < size]
        assert span.start == min(reads)
        assert 0 <= span.first < span.end <= size
        if inside:
            assert (span.first, span.end) == (
                max(min(reads), 0),
                min(max(reads) + 1, size),
            )


@pytest.mark.parametrize("name", ["tiny4", "ecp5_8", "odd12", "edge16"])
@seeds(6)
def test_plans_fit(name, seed):
    config = CONFIGS[name]
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    space = int(rng.integers(8, config.act_depth))
    for job in candidates(graph, 0, config, resident=False):
        plan = choose_plan(job, config, Room(space, resident=False, staged=True))
        assert sum(plan.heights) == job.rows and sum(plan.widths) == job.cols
        assert max(plan.heights) * max(plan.widths) <= config.acc_half
        assert plan.input[0] * plan.input[1] + plan.output[0] * plan.output[1] <= space
        assert sum(box.tiles for box in plan.boxes) == job.k_tiles
        assert max(box.tiles for box in plan.boxes) * config.array <= config.weight_depth


@pytest.mark.parametrize("array", [4, 12, 16])
def test_touched_blocks_hold_the_groups(array):
    """Every range has the channels its output block needs, lies in the input, and is as long as the longest must be."""
    rng = np.random.default_rng(array)
    for _ in range(300):
        groups, inputs, outputs = (int(n) for n in rng.integers(1, 12, 3))
        firsts, count = touched_blocks(groups * outputs, groups * inputs, groups, array)
        needed = []
        for block, first in enumerate(firsts):
            channels = [
                o // outputs * inputs + c
                for o in range(block * array, min((block + 1) * array, groups * outputs))
                for c in range(inputs)
            ]
            assert first * array <= min(channels) and max(channels) < (first + count) * array
            needed.append(max(channels) // array - min(channels) // array + 1)
        assert count == max(needed)
        assert firsts[0] >= 0 and firsts[-1] + count <= -(-groups * inputs // array)
        assert list(firsts) == sorted(firsts) and len(firsts) == -(-groups * outputs // array)


def test_every_way_to_keep_groups_is_chosen():
    """A whole image is that of a round's groups: a quarter here."""
    job = job_of((1, 512, 14, 14), 16, out=512, kernel=(3, 3), pads=(1, 1, 1, 1), groups=4)
    plans = [choose_plan(job, PRESETS["edge16"], Room(space, False, True)) for space in (6000, 1200, 20)]
    assert [plan.keep for plan in plans] == [Keep.IMAGE, Keep.TILE, Keep.BOX]
    assert plans[0].input == (8 * 14 * 14, 2)


def test_every_way_to_keep_the_input_is_chosen():
    job = job_of((1, 512, 7, 7), 16, out=512, kernel=(3, 3), pads=(1, 1, 1, 1))
    keeps = [choose_plan(job, PRESETS["edge16"], Room(space, False, True)).keep for space in (8192, 800, 40)]
    assert keeps == [Keep.IMAGE, Keep.TILE, Keep.BOX]


def test_no_room_is_refused_by_name():
    job = job_of((1, 4, 4, 4), out=4, kernel=(1, 1))
    with pytest.raises(SystolithError, match=r"Layer 'conv0' must have room .* activation SRAM, not 1 words"):
        choose_plan(job, PRESETS["tiny4"], Room(1, resident=False, staged=True))


@pytest.mark.parametrize(("act_depth", "kernel"), [(16, (4, 4)), (32, (6, 6)), (64, (9, 9))])
def test_the_array_does_what_the_depthwise_unit_has_no_room_for(act_depth, kernel):
    """The array can take a kernel tap by tap."""
    net = Network((1, 5, 12, 12))
    graph = net.graph(net.table(net.depthwise(net.x, kernel=kernel)))
    config = replace(PRESETS["tiny4"], act_depth=act_depth, act_banks=1, dw_taps=3)
    names = {i.form.name for i in agrees(graph, config).instructions}
    assert "EXECUTE" in names and "DEPTHWISE" not in names
    assert "DEPTHWISE" in {i.form.name for i in agrees(graph, replace(config, act_depth=128)).instructions}


def test_long_rows_of_words_apart_are_loaded_in_pieces():
    """Each piece fits the fields of a load, with the largest step there is."""
    net = Network((1, 9, 1, 255 * 12000))
    graph = net.graph(net.conv(net.x, 4, (1, 1), stride=(1, 255)))
    job = next(job for job in candidates(graph, 0, PRESETS["edge16"], resident=False) if job.source.column == 255)
    loads = InputLoads(job, Place(None, Region.INPUT), 16)
    steps = list(loads.load(0, Buffer(0, 12000, 12000), (0, 1), (0, 1), (0, 12000)))
    for step in steps:
        for name, values in (*step.constants.items(), (step.name, step.fields)):
            encode(make(name, **values))
    words = [step.fields["offset"] // 16 + 255 * i for step in steps for i in range(step.fields["cols"])]
    assert words == list(range(0, 255 * 12000, 255))


def test_too_many_tiles_are_refused(monkeypatch: pytest.MonkeyPatch):
    """Accumulators would hold more, but a small activation SRAM means small tiles."""
    job, room = job_of((1, 4, 30, 30), out=4, kernel=(3, 3)), Room(16, resident=False, staged=True)
    plan = choose_plan(job, PRESETS["tiny4"], room)
    tiles = len(plan.heights) * len(plan.widths) * len(plan.boxes)
    assert tiles > 100 > 2 * job.rows * job.cols / PRESETS["tiny4"].acc_half
    monkeypatch.setattr(tiling, "MAX_STEPS", tiles)
    assert choose_plan(job, PRESETS["tiny4"], room) == plan
    monkeypatch.setattr(tiling, "MAX_STEPS", tiles - 1)
    with pytest.raises(UnsupportedError, match=rf"Layer 'conv0' must need at most {tiles - 1} tiles, not {tiles} on"):
        choose_plan(job, PRESETS["tiny4"], room)


def test_matrix_products_fill_the_array():
    """The batch becomes rows, and a kernel that covers its input becomes one matrix product."""
    matrix = job_of((30, 10, 1, 1), out=6, kernel=(1, 1))
    assert (matrix.images, matrix.rows, matrix.cols, matrix.k_tiles) == (1, 30, 1, 3)
    flat = job_of((30, 10, 3, 2), out=6, kernel=(3, 2))
    assert (flat.images, flat.rows, flat.cols, flat.kernel, flat.blocks) == (1, 30, 1, (1, 1), 18)


def test_packing_needs_fewer_k_tiles():
    """A 7x7 stem on 3 channels: 10 K tiles at N = 16, not 49."""
    graph = conv_graph(np.random.default_rng(0), (1, 3, 32, 32), [{"out": 8, "kernel": (7, 7), "stride": (2, 2)}])
    jobs = {job.packing: job for job in candidates(graph, 0, PRESETS["edge16"], resident=False)}
    assert {packing: job.k_tiles for packing, job in jobs.items()} == {"none": 49, "rows": 14, "full": 10}
    assert len(jobs["full"].gather.passes) == 16


def test_input_is_staged_away_from_the_output():
    """Loads lose writes to the SFU's in the same bank; that matters where they are most of the work."""
    net = Network((1, 4, 12, 12))
    compiled = agrees(net.graph(net.conv(net.conv(net.x, 4, (1, 1)), 4)), CONFIGS["tiny4"])
    first, bank = compiled.planned[0], CONFIGS["tiny4"].act_depth // CONFIGS["tiny4"].act_banks
    assert first.target.sram is not None and first.plan.keep != Keep.RESIDENT
    steps = [step for step in compiled.steps if step.layer == 0]
    loaded = {step.fields["sram"] // bank for step in steps if step.name == "LOAD.A"}
    written = {step.fields["dst"] // bank for step in steps if step.name == "SFU"}
    assert loaded and written and not loaded & written
