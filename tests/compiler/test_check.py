"""The checker finds what is wrong: missing tokens, moved addresses, deadlocks, overflows, everything out of bounds."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from systolith.compiler.check import check
from systolith.compiler.compile import compile_graph
from systolith.config import PRESETS
from systolith.errors import SystolithError
from systolith.isa import Instruction, Region, Unit, decode_program, encode_program, make

from .graphs import CONFIGS, conv_graph, random_graph, reference, run

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
    for seed in range(6):
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
        ("SFU", "acc", TINY.acc_half - 1, "must stay inside its accumulator half of 32 rows"),
        ("SFU", "dst", TINY.act_depth - 1, "must stay below word 512 of activation SRAM"),
        ("SFU", "param", TINY.param_depth, "must stay below word 16 of parameter SRAM"),
        ("SFU", "mode", 1, "must have mode 0, not 1"),
        ("STORE", "sram", TINY.act_depth - 1, "must stay below word 512 of activation SRAM"),
        ("STORE", "offset", 1 << 16, "must stay inside the .* bytes of region OUTPUT"),
    ],
)
def test_a_changed_field_is_refused(name, field, value, pattern):
    code = list(decode_program(small_program().code))
    index = next(i for i, instruction in enumerate(code) if instruction.form.name == name)
    code[index] = replace(code[index], values={**code[index].values, field: value})
    refused(code, f"Instruction {index} \\({name}\\) {pattern}")


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
