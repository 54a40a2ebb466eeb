"""All backends on the same compiled networks: the same outputs, the same faults, reports with the same keys."""

from dataclasses import replace

import numpy as np
import pytest

from systolith import PRESETS
from systolith.compiler.frontend.importer import import_model
from systolith.compiler.pipeline import compile_model
from systolith.isa import INSTRUCTION_BYTES, Unit
from systolith.sim.compare.outputs import check
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_model import MemoryModel
from systolith.sim.rtl.bench_runner import run_bench
from systolith.sim.run import Options, run
from systolith.sim.stimulus.layers import KINDS, random_layer
from systolith.sim.stimulus.model import Limits
from systolith.sim.testbench import program_bench
from tests.support.seeds import each_seed, many

pytestmark = pytest.mark.rtl

TINY = PRESETS["tiny4"]
SMALL = Limits(channels=20, size=8, kernel=3, batch=2, rows=9, features=24, layers=3, macs=20_000)
KEYS = {"backend", "config", "model", "cycles", "macs", "utilization", "dram_bytes", "stalls", "layers"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["tiny4", "ecp5_8"])
def test_rtl_equals_golden_and_onnxruntime(name: str, kind: str):
    config = PRESETS[name]
    for seed in each_seed(range(many(4))):
        model, inputs = random_layer(np.random.default_rng(seed), kind)
        program = compile_model(model, config)
        memory = MemoryModel(stall=(0, 0.1, 0.5, 0.8)[seed % 4], seed=seed, read_latency=1 + 40 * (seed % 4))
        outputs, report = run(program, inputs, config, "rtl", Options(memory, seed))
        assert check(program, inputs, outputs).passed, f"seed {seed}"
        assert report["cycles"] == sum(layer["cycles"] for layer in report["layers"])
        assert 0 < report["utilization"] <= 1


def test_rtl_runs_groups():
    """Depthwise, with and without multiplier, and groups that cross channel blocks; the memory stalls."""
    found: list[tuple[int, int, int]] = []
    for seed in each_seed(range(many(40))):
        model, inputs = random_layer(np.random.default_rng(seed), ("qlinearconv", "chain")[seed % 2], SMALL)
        graph = import_model(model)
        shapes = [(layer.groups, *layer.weights.shape[:2]) for layer in graph.layers if layer.groups > 1]
        if not shapes:
            continue
        found += shapes
        program = compile_model(model, TINY)
        memory = MemoryModel(stall=(0.1, 0.5, 0.8)[seed % 3], seed=seed, read_latency=1 + seed % 40)
        outputs, _ = run(program, inputs, TINY, "rtl", Options(memory, seed))
        assert check(program, inputs, outputs).passed, f"seed {seed}"
    wide = {(groups, outputs // groups, inputs) for groups, outputs, inputs in found if groups * inputs > TINY.array}
    assert any(outputs == inputs == 1 for _, outputs, inputs in wide)
    assert any(outputs > 1 and inputs == 1 for _, outputs, inputs in wide)
    assert any(inputs > 1 and TINY.array % inputs for _, _, inputs in wide)


@pytest.mark.parametrize("stall", [0, 0.3])
def test_cocotb_equals_golden(stall: float):
    model, inputs = random_layer(np.random.default_rng(5), "chain", SMALL)
    program = compile_model(model, TINY)
    reports = {}
    for backend in ("isa", "rtl", "cocotb"):
        outputs, reports[backend] = run(program, inputs, TINY, backend, Options(MemoryModel(stall=stall), seed=1))
        assert check(program, inputs, outputs).passed, backend
        assert reports[backend].keys() >= KEYS
        assert reports[backend]["backend"] == backend
    # The same beats, whatever the memory.
    assert reports["rtl"]["dram_bytes"] == reports["cocotb"]["dram_bytes"]


def test_faults_come_out_of_every_backend_alike():
    model, inputs = random_layer(np.random.default_rng(1), "qgemm", SMALL)
    program = compile_model(model, TINY)
    code = program.code[: 2 * INSTRUCTION_BYTES] + bytes(INSTRUCTION_BYTES) + program.code[3 * INSTRUCTION_BYTES :]
    texts = set()
    for backend in ("isa", "rtl", "cocotb"):
        with pytest.raises(HardwareFault) as caught:
            run(replace(program, code=code), inputs, TINY, backend, Options(watchdog=5000))
        assert (caught.value.code, caught.value.unit, caught.value.index) == ("OPCODE", Unit.CONTROL, 2)
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_whole_accelerator_under_cocotb():
    result = run_bench(program_bench.component(TINY), program_bench.__name__, TINY, seed=1)
    assert result.passed, result.log[-4000:]
    assert result.coverage["programs"] == program_bench.PROGRAMS
