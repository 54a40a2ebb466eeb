"""The checker finds what is wrong: missing tokens, moved addresses, deadlocks, overflows, everything out of bounds."""

import contextlib
import struct
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from systolith.compiler.check.check import check
from systolith.compiler.check.scales import check_scales
from systolith.compiler.pipeline import compile_graph
from systolith.config import PRESETS
from systolith.errors import SystolithError
from systolith.isa import Instruction, Region, Unit, decode_program, encode_program, make
from tests.support.graph_builder import random_network
from tests.support.hand_graphs import CONFIGS, conv_graph, random_graph, reference, run
from tests.support.seeds import each_seed, many

TINY = PRESETS["tiny4"]
W, A, E, S, T = (1 << unit for unit in (Unit.LOAD_W, Unit.LOAD_A, Unit.EXECUTE, Unit.SFU, Unit.STORE))


def small_program():
    graph = conv_graph(np.random.default_rng(0), (1, 6, 6, 6), [{"out": 6, "kernel": (3, 3)}])
    return compile_graph(graph, TINY)


def refused(instructions, pattern, program=None, config=TINY):
    regions = (program or small_program()).region_bytes()
    with pytest.raises(SystolithError, match=pattern):
        check(encode_program(instructions), config, regions)


def tokens_of(program: list[Instruction]):
    """Every token as (pair, giver, taker)."""
    given, taken = defaultdict(list), defaultdict(list)
    for index, i in enumerate(program):
        for unit in range(6):
            if i.signal >> unit & 1:
                given[i.unit, unit].append(index)
            if i.wait >> unit & 1:
                taken[unit, i.unit].append(index)
    return [(pair, *token) for pair in given for token in zip(given[pair], taken[pair], strict=True)]


@pytest.mark.parametrize("name", ["tiny4", "odd12", "edge16"])
def test_every_token_matters(name):
    """Without any one token a program is refused, or it is still right in every order tried."""
    config, found, tried = CONFIGS[name], 0, 0
    for seed in each_seed(range(many(6))):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, depth=2, channels=24, size=9)
        program = compile_graph(graph, config)
        code = list(decode_program(program.code))
        tokens = tokens_of(code)
        for choice in rng.permutation(len(tokens))[:12]:
            (giver_unit, taker_unit), giver, taker = tokens[choice]
            mutant = list(code)
            mutant[giver] = replace(code[giver], signal=code[giver].signal & ~(1 << taker_unit))
            mutant[taker] = replace(code[taker], wait=code[taker].wait & ~(1 << giver_unit))
            tried += 1
            try:
                check(encode_program(mutant), config, program.region_bytes())
            except SystolithError as error:
                assert "race" in str(error) or "overflow" in str(error)
                found += 1
                continue
            x = rng.integers(-128, 128, graph.values["x"].dims).astype(np.int8)
            for order in range(4):
                changed = replace(program, code=encode_program(mutant))
                assert (run(changed, config, x, order) == reference(graph, x)).all()
    assert found >= 0.95 * tried, (found, tried)


@pytest.mark.slow
def test_every_token_of_a_network_matters():
    """The same for networks of all kinds of layers, on all six units; and `drain`, where no table is
    written before."""
    config = replace(TINY, dw_taps=9, dw_depth=64)
    found, tried, drains, wet, units = 0, 0, 0, 0, set()
    for seed in (300, 307, 308, 311, 325):
        rng = np.random.default_rng(seed)
        program = compile_graph(random_network(seed), config)
        code, regions = list(decode_program(program.code)), program.region_bytes()
        tokens = tokens_of(code)
        for choice in rng.permutation(len(tokens))[:15]:
            (giver_unit, taker_unit), giver, taker = tokens[choice]
            mutant = list(code)
            mutant[giver] = replace(code[giver], signal=code[giver].signal & ~(1 << taker_unit))
            mutant[taker] = replace(mutant[taker], wait=code[taker].wait & ~(1 << giver_unit))
            tried += 1
            units |= {giver_unit, taker_unit}
            with contextlib.suppress(SystolithError):
                check(encode_program(mutant), config, regions)
                continue
            found += 1
        for index, i in enumerate(code):
            if i.form.name == "SFU" and i["drain"]:
                mutant = [*code[:index], replace(i, values={**i.values, "drain": 0}), *code[index + 1 :]]
                drains += 1
                with contextlib.suppress(SystolithError):
                    check(encode_program(mutant), config, regions)
                    continue
                wet += 1
    assert found >= 0.95 * tried, (found, tried)
    assert wet > drains / 2 > 3, (wet, drains)
    assert units == set(range(6))


@pytest.mark.parametrize(
    ("name", "field", "value", "pattern"),
    [
        ("LOAD.W", "sram", TINY.weight_depth - 1, "must stay below word 256 of weight SRAM"),
        ("LOAD.W", "offset", 1 << 20, "must stay inside the .* bytes of region WEIGHTS"),
        ("LOAD.W", "region", 6, "must stay inside the 0 bytes of region 6"),
        ("LOAD.W", "words", 0, "must have words of at least 1, not 0"),
        ("LOAD.A", "sram", TINY.act_depth - 1, "must stay below word 512 of activation SRAM"),
        ("LOAD.A", "offset", 300, "must stay inside the 288 bytes of region INPUT"),
        ("LOAD.A", "rows", 0, "must have rows of at least 1, not 0"),
        ("EXECUTE", "act", TINY.act_depth - 1, "must stay below word 512 of activation SRAM"),
        ("EXECUTE", "weight", TINY.weight_depth - 1, "must stay below word 256 of weight SRAM"),
        ("EXECUTE", "acc", TINY.acc_half - 1, "must stay inside its accumulator half of 32 rows"),
        ("EXECUTE", "acc", TINY.acc_depth, "must stay inside its accumulator half of 32 rows"),
        ("EXECUTE", "cols", 0, "must have cols of at least 1, not 0"),
        ("SFU", "source", TINY.acc_half - 1, "must stay inside its accumulator half of 32 rows"),
        ("SFU", "source", TINY.acc_depth - 1, "must stay inside its accumulator half of 32 rows"),
        ("SFU", "dst", TINY.act_depth - 1, "must stay below word 512 of activation SRAM"),
        ("SFU", "param", TINY.param_depth, "must stay below word 16 of parameter SRAM"),
        ("SFU", "memory", 2, "must have a memory that exists, not 2"),
        ("SFU", "memory", 3, "must have a memory that exists, not 3"),
        ("SFU", "second", 2, "must have no second operand, add, or multiply with a maximum of activations"),
        ("SFU", "second", 3, "must have no second operand, add, or multiply"),
        ("STORE", "sram", TINY.act_depth - 1, "must stay below word 512 of activation SRAM"),
        ("STORE", "offset", 1 << 16, "must stay inside the .* bytes of region OUTPUT"),
    ],
)
def test_a_changed_field_is_refused(name, field, value, pattern):
    code = list(decode_program(small_program().code))
    index = next(i for i, instruction in enumerate(code) if instruction.form.name == name)
    code[index] = replace(code[index], values={**code[index].values, field: value})
    refused(code, f"Instruction {index} \\({name}\\) {pattern}")


def sfu_program(*changes, window=(1, 1), dw_taps=0, **config):
    """SFU instructions that read activations; `changes` of a copy of one word at 8 to word 16."""
    constants = [
        make("CONFIG.SFU.output", zero_point=0, clamp_min=-128, clamp_max=127, row_stride=4, col_stride=1, lookup=0),
        make("CONFIG.SFU.input", height=1, width=4, row_stride=4, y0=0, x0=0, pad=0),
        make("CONFIG.SFU.window", kernel_y=window[0], kernel_x=window[1], stride_y=1, stride_x=1, dilation_y=1,
             dilation_x=1),
        make("CONFIG.SFU.operand", row_stride=0, col_step=1, zero_a=0, zero_b=0),
    ]  # fmt: skip
    base = {"memory": 1, "reduce": 0, "second": 0, "drain": 0, "source": 8, "operand": 64, "dst": 16, "rows": 1,
            "cols": 1, "param": 0}  # fmt: skip
    return [*constants, *(make("SFU", **{**base, **change}) for change in changes), make("END")]


def test_a_missing_drain_is_refused():
    """The pipeline may still hold what an SFU instruction reads, also as its second operand."""
    regions = small_program().region_bytes()
    refused(sfu_program({}, {"source": 16, "dst": 24}), r"Instruction 5 \(SFU\) must drain .* instruction 4 writes")
    refused(sfu_program({}, {"second": 1, "operand": 16, "dst": 24}), r"Instruction 5 \(SFU\) must drain")
    later = {"source": 16, "dst": 32}
    refused(sfu_program({}, {"drain": 1, "source": 9, "dst": 17}, {"source": 17, "dst": 25}), "Instruction 6 .* drain")
    for good in (
        [{}, {"source": 16, "dst": 24, "drain": 1}],
        [{}, {"source": 9, "dst": 17, "drain": 1}, later],
        [{}, {"source": 17, "dst": 24}],
    ):
        check(encode_program(sfu_program(*good)), TINY, regions)
    table = make("CONFIG.SFU.table", index=0, entries=0)
    first = sfu_program({}, later)
    check(encode_program([*first[:5], table, *first[5:]]), TINY, regions)


def test_in_place():
    """A word may be written by the output that reads it, or a later one; not by an earlier one."""
    regions = small_program().region_bytes()
    for good in ({"cols": 3, "dst": 8}, {"cols": 3, "source": 9, "dst": 8}, {"second": 1, "cols": 3, "dst": 64}):
        check(encode_program(sfu_program(good)), TINY, regions)
    refused(sfu_program({"cols": 3, "dst": 9}), r"Instruction 4 \(SFU\) must not write activation word 9 before")
    refused(sfu_program({"second": 1, "cols": 3, "dst": 65}), "must not write activation word 65 before it reads it")
    refused(sfu_program({"cols": 3, "dst": 9}, window=(1, 2)), "must not write activation word 9 before it reads it")
    check(encode_program(sfu_program({"cols": 2, "dst": 11}, window=(1, 2))), TINY, regions)
    check(encode_program(sfu_program({"cols": 3, "dst": 8}, window=(1, 2))), TINY, regions)


def test_windows_and_depthwise_stay_inside():
    refused(sfu_program({"source": TINY.act_depth - 1, "cols": 2}), "must stay below word 512 of activation SRAM")
    refused(sfu_program({"cols": 0}), "must have cols of at least 1, not 0")
    refused(sfu_program({}, window=(0, 1)), "must have kernel_y of at least 1, not 0")
    refused(sfu_program({"second": 2, "reduce": 1}), "must have no second operand, add, or multiply with a maximum")
    refused(sfu_program({"second": 1, "operand": TINY.act_depth}), "must stay below word 512 of activation SRAM")
    fields = {"act": 0, "weight": 0, "y0": 0, "x0": 0, "rows": 1, "cols": 1, "acc": 0}
    taps = {"kernel_y": 3, "kernel_x": 3, "stride_y": 1, "stride_x": 1, "dilation_y": 1, "dilation_x": 1}

    def program(**changes):
        return [
            make("CONFIG.DEPTHWISE.input", height=4, width=4, row_stride=4, zero_point=0),
            make("CONFIG.DEPTHWISE.kernel", **taps),
            make("DEPTHWISE", **{**fields, **changes}),
            make("END"),
        ]

    config = replace(TINY, dw_taps=1, dw_depth=64)
    check(encode_program(program()), config, {})
    refused(program(), "must run on a configuration with a depthwise unit")
    refused(program(weight=TINY.weight_depth - 8), "must stay below word 256 of weight SRAM", config=config)
    refused(program(act=TINY.act_depth - 8), "must stay below word 512 of activation SRAM", config=config)
    refused(program(acc=31, cols=2), "must stay inside its accumulator half of 32 rows", config=config)
    refused(program(rows=0), "must have rows of at least 1, not 0", config=config)


def test_a_moved_load_races():
    """A load into what the store unit reads."""
    code = list(decode_program(small_program().code))
    stores = [i for i in code if i.form.name == "STORE"]
    last = max(i for i, instruction in enumerate(code) if instruction.form.name == "LOAD.A")
    late = replace(code[last], values={**code[last].values, "sram": stores[0]["sram"]}, wait=0, signal=0)
    refused([*code[:-1], late, code[-1]], "must wait for instruction .* race in activation SRAM")


def test_the_weight_stage_knows_only_its_own_tokens():
    """A token that reaches EXECUTE's row stage through another unit does not order its weight reads."""
    loads = [
        make("LOAD.W", W * 0, A, region=1, offset=0, sram=0, words=4, target=0),
        make("CONFIG.LOAD_A.source", row_pitch=4, height=1, row_step=1, row_bytes=4),
        make("CONFIG.LOAD_A.window", step=4, length=4, lane=0, zero_point=0, row_stride=1),
        make("LOAD.A", W, E, region=2, offset=0, sram=0, rows=1, cols=1, x0=0, y0=0),
        make("CONFIG.EXECUTE.input", height=1, width=1, row_stride=1, block_stride=1, zero_point=0),
        make(
            "CONFIG.EXECUTE.kernel",
            kernel_y=1,
            kernel_x=1,
            blocks=1,
            stride_y=1,
            stride_x=1,
            dilation_y=1,
            dilation_x=1,
        ),
        make("EXECUTE", A, act=0, weight=0, y0=0, x0=0, rows=1, cols=1, acc=0, accumulate=0),
        make("END"),
    ]
    refused(loads, r"Instruction 6 \(EXECUTE\) must wait for instruction 0 \(LOAD.W\): race in weight SRAM")


def test_limits_of_a_clamp():
    """The hardware does what it likes with a smallest value above the largest."""
    code = list(decode_program(small_program().code))
    index = next(i for i, instruction in enumerate(code) if instruction.form.name == "CONFIG.SFU.output")
    values = {**code[index].values, "clamp_min": 5, "clamp_max": 4}
    changed = [*code[:index], replace(code[index], values=values), *code[index + 1 :]]
    refused(changed, r"\(SFU\) must have a clamp_min of at most clamp_max in output, not 5 and 4")


def test_deadlock():
    """Each unit waits for what the other gives later."""
    load = {"region": 1, "offset": 0, "sram": 0, "words": 4}
    store = {"region": 3, "offset": 0, "sram": 0, "rows": 1, "cols": 1}
    code = [
        make("CONFIG.STORE.target", row_pitch=0, row_stride=0),
        make("LOAD.W", T, T, target=0, **load),
        make("STORE", W, W, **store),
        make("END"),
    ]
    refused(code, r"Instructions \[1, 2\] must not wait for each other: deadlock")


def test_deadlock_of_a_full_queue():
    """The token a full queue waits for comes from an instruction that can not be dispatched."""
    load = {"region": 1, "offset": 0, "sram": 0, "words": 4}
    store = {"region": 3, "offset": 0, "sram": 0, "rows": 1, "cols": 1}
    first = make("LOAD.W", T, target=0, **load)
    more = [make("LOAD.W", target=0, **load)] * TINY.queue_depth
    rest = [make("CONFIG.STORE.target", row_pitch=0, row_stride=0), make("STORE", 0, W, **store), make("END")]
    refused([first, *more, *rest], "deadlock")
    check(encode_program([first, *more[2:], *rest]), TINY, small_program().region_bytes())


def test_token_overflow():
    """16 tokens for a unit that may take none of them yet."""
    load = {"region": 1, "offset": 0, "words": 4, "target": 0}
    store = {"region": 3, "offset": 0, "sram": 0, "rows": 1, "cols": 1}
    config = replace(TINY, queue_depth=64)
    code = [make("CONFIG.STORE.target", row_pitch=0, row_stride=0)]
    code += [make("LOAD.W", 0, T, sram=4 * i, **load) for i in range(16)]
    code += [make("STORE", W, **store) for _ in range(16)]
    refused(
        [*code, make("END")], "Instruction 16 must not give token 16 from LOAD_W to STORE .* overflow", config=config
    )
    check(encode_program([*code[:16], *code[17:-1], make("END")]), config, small_program().region_bytes())


def test_tokens_without_partner():
    code = list(decode_program(small_program().code))
    extra = make("LOAD.W", region=1, offset=0, sram=0, words=4, target=1)
    refused([replace(extra, signal=T), *code], "Instruction 0 must signal a unit that takes the token, not STORE")
    refused(
        [replace(extra, wait=T), *code], "Instruction 0 .* must wait for a token that is given, not for one of STORE"
    )


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: [], lambda c: [*c, c[-1]]])
def test_end(change):
    refused(change(list(decode_program(small_program().code))), "Program must end with its only END")


def test_memory_is_checked_as_sram_is():
    """A load of what a store writes, without a token."""
    program = small_program()
    code = list(decode_program(program.code))
    index = max(i for i, instruction in enumerate(code) if instruction.form.name == "LOAD.A")
    late = replace(code[index], values={**code[index].values, "region": Region.OUTPUT, "offset": 0, "sram": 500})
    refused([*code[:-1], replace(late, signal=0, wait=0), code[-1]], "race in", program)


def test_weights_may_come_from_what_a_store_writes():
    """LOAD.W of a region that STORE writes to needs its token, like any other read of memory."""
    target = make("CONFIG.STORE.target", row_pitch=0, row_stride=0)
    store = {"region": Region.SCRATCH, "offset": 0, "sram": 0, "rows": 1, "cols": 1}
    load = {"region": Region.SCRATCH, "offset": 0, "sram": 0, "words": 1}
    for to in (0, 1):
        code = [target, make("STORE", **store), make("LOAD.W", target=to, **load), make("END")]
        with pytest.raises(SystolithError, match=r"Instruction 2 \(LOAD.W\) must wait .* race in region SCRATCH"):
            check(encode_program(code), TINY, {Region.SCRATCH: 64})
        code[1:3] = make("STORE", 0, W, **store), make("LOAD.W", T, target=to, **load)
        check(encode_program(code), TINY, {Region.SCRATCH: 64})


def test_code_is_not_written():
    """Instructions are fetched ahead, and no token says how far."""
    code = [
        make("CONFIG.STORE.target", row_pitch=0, row_stride=0),
        make("STORE", region=Region.CODE, offset=0, sram=0, rows=1, cols=1),
        make("END"),
    ]
    with pytest.raises(SystolithError, match=r"Instruction 1 \(STORE\) must not write region CODE"):
        check(encode_program(code), TINY, {Region.CODE: 48})


def test_constants_of_a_unit_that_is_not_there():
    """Dispatch refuses them, whether the unit works or not."""
    code = [make("CONFIG.DEPTHWISE.input", height=4, width=4, row_stride=4, zero_point=0), make("END")]
    refused(code, r"Instruction 0 \(CONFIG.DEPTHWISE.input\) must run on a configuration with a depthwise unit")
    check(encode_program(code), replace(TINY, dw_taps=1), {})


def test_lanes_of_a_load():
    """The message has the numbers of the instruction."""
    code = list(decode_program(small_program().code))
    index = next(i for i, instruction in enumerate(code) if instruction.form.name == "CONFIG.LOAD_A.window")
    code[index] = replace(code[index], values={**code[index].values, "lane": 3, "length": 4})
    refused(code, r"\(LOAD.A\) must write lanes below 4, not 3 \+ 4")


def test_instructions_that_touch_too_much():
    """Fields can say what would take gigabytes to look at."""
    fields = dict.fromkeys(("region", "offset", "x0", "y0"), 0)
    window = make("CONFIG.LOAD_A.window", step=1, length=1, lane=0, zero_point=0, row_stride=0)
    most = replace(TINY, act_depth=1 << 18, act_banks=1)
    loads = [window, make("LOAD.A", **fields | {"region": 2}, sram=0, rows=4095, cols=4095), make("END")]
    check(encode_program(loads), most, {Region.INPUT: 1})
    source = make("CONFIG.LOAD_A.source", row_pitch=0, height=16383, row_step=1, row_bytes=1 << 23)
    wide = make("CONFIG.LOAD_A.window", step=4095, length=1, lane=0, zero_point=0, row_stride=0)
    refused([source, wide, loads[1], make("END")], "must (touch at most 16777216 cells|stay inside)", config=most)
    steps = ("stride_y", "stride_x", "dilation_y", "dilation_x")
    kernel = {"kernel_y": 255, "kernel_x": 255, **dict.fromkeys(steps, 1)}
    execute = make("EXECUTE", act=0, weight=0, y0=0, x0=0, rows=1, cols=1, acc=0, accumulate=0)
    refused(
        [make("CONFIG.EXECUTE.kernel", **kernel, blocks=4095), execute, make("END")], "below word 256 of weight SRAM"
    )
    sfu = make("SFU", memory=1, reduce=0, second=0, drain=0, source=0, operand=0, dst=0, rows=300, cols=1, param=0)
    output = make("CONFIG.SFU.output", zero_point=0, clamp_min=0, clamp_max=0, row_stride=1, col_stride=1, lookup=0)
    refused(
        [output, make("CONFIG.SFU.window", **kernel), sfu, make("END")], "must touch at most 16777216 cells, not 195"
    )


def test_fences_are_looked_at_once():
    """Time grows with the number of instructions, not with its square."""
    check(encode_program([make("FENCE")] * 20_000 + [make("END")]), TINY, {})


def test_scales_of_parameters():
    program = small_program()
    check_scales(program)
    loads = [i for i in decode_program(program.code) if i.form.name == "LOAD.W" and i["target"]]
    for scale in (0.0, -1.0, 1e-40, float("nan"), float("inf")):
        weights = bytearray(program.weights)
        struct.pack_into("<f", weights, loads[0]["offset"] + 4, scale)
        with pytest.raises(SystolithError, match=r"\(LOAD.W\) must load scales that are positive, normal float32, "):
            check_scales(replace(program, weights=bytes(weights)))
    for change in ({"sram": 1}, {"words": 7}, {"region": 2}):
        code = [replace(i, values={**i.values, **change}) if i == loads[0] else i for i in decode_program(program.code)]
        with pytest.raises(SystolithError, match="must load whole parameter words from region WEIGHTS"):
            check_scales(replace(program, code=encode_program(code)))
