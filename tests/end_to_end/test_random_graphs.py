"""Random networks of all operators: golden as ONNX Runtime, the program as golden, and the RTL as both.

`make verify-long` runs as many as one likes; here are a few, the same ones every time. A failing one is made smaller.
"""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, event, given, note, settings
from hypothesis import strategies as st

from systolith.compiler.network import compile_network
from systolith.config import PRESETS, Config
from systolith.errors import UnsupportedError
from systolith.program import Program
from systolith.sim.campaign import CONFIGS
from systolith.sim.compare.outputs import check
from systolith.sim.reference import reference
from systolith.sim.run import Options, run
from systolith.sim.stimulus.network import RandomNetwork, random_network
from systolith.sim.stimulus.operators import OPERATORS
from systolith.sim.stimulus.tensors import SeededDraws
from tests.support.seeds import many

TINY = PRESETS["tiny4"]
SMALL = (*(config for config in CONFIGS if config.array <= 8), *(replace(TINY, dw_taps=taps) for taps in (1, 3)))
DEPTHWISE = next(config for config in CONFIGS if config.array == 4 and config.dw_taps)


def few(count: int):
    """Settings; with more examples they are new ones every time."""
    checks = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
    ]
    return settings(max_examples=many(count), derandomize=many(1) == 1, suppress_health_check=checks)


class Drawn:
    """Choices of hypothesis."""

    def __init__(self, draw: st.DrawFn):
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))


@st.composite
def networks(draw: st.DrawFn, *kinds: str) -> RandomNetwork:
    network = random_network(Drawn(draw), only=kinds)
    note(f"operators: {network.kinds}")
    return network


def compiled(network: RandomNetwork, config: Config):
    """What the network becomes; nothing that the accelerator does all of it without is of interest."""
    try:
        program = compile_network(network.model, config)
    except UnsupportedError as error:
        note(str(error))
        event("for the host")
        assume(False)
    event("whole" if isinstance(program, Program) else "in parts")
    return program


def agrees(network: RandomNetwork, program, config: Config, backend: str, seed: int) -> None:
    outputs, _ = run(program, network.inputs, config, backend, Options(seed=seed))
    found = check(program, network.inputs, outputs)
    assert found.golden == 0, found
    assert found.passed, found
    assert found.onnxruntime is not None or reference.saturates(), found


@pytest.mark.slow
@few(60)
@given(networks(), st.sampled_from(SMALL), st.integers(0, 99))
def test_isa_equals_golden_equals_onnxruntime(network: RandomNetwork, config: Config, seed: int):
    """`seed` orders the units and places the regions."""
    agrees(network, compiled(network, config), config, "isa", seed)


@pytest.mark.parametrize("kind", [
    pytest.param(kind, marks=[pytest.mark.slow] if kind in ("conv_transpose", "pad", "concat", "resize") else [])
    for kind in OPERATORS])  # fmt: skip
def test_every_kind_of_operator(kind: str):
    """Alone and before itself; some of them in programs without parts for the host."""
    whole, kinds = [], [kind]
    if kind in ("gemm", "matmul"):
        kinds.append("flatten")  # They are for matrices.

    @few(8)
    @given(networks(*kinds))
    def run_some(network: RandomNetwork):
        program = compiled(network, TINY)
        agrees(network, program, TINY, "isa", 0)
        whole.append(isinstance(program, Program) and kind in network.kinds)

    if kind != "softmax":
        run_some()
        assert any(whole)


def wrong(right):
    """The function with a fault in one element of many."""

    def function(*arguments, **options):
        result = right(*arguments, **options).copy()
        result.flat[-1:] ^= 1
        return result

    return function


@pytest.mark.parametrize("place", [
    "isa.sfu.add", "isa.sfu.look_up", "isa.sfu.requantize", "golden.golden.add", "golden.golden.convolve",
    "golden.golden.requantize", "golden.golden.reduce_windows",
])  # fmt: skip
def test_faults_are_found(place: str, monkeypatch: pytest.MonkeyPatch):
    """In the simulator, or in the golden model."""
    module, name = place.rsplit(".", 1)
    module = import_module(f"systolith.sim.{module}")
    monkeypatch.setattr(module, name, wrong(getattr(module, name)))
    for seed in range(20):
        network = random_network(SeededDraws(np.random.default_rng(seed)))
        try:
            program = compile_network(network.model, TINY)
        except UnsupportedError:
            continue
        outputs, _ = run(program, network.inputs, TINY, "isa")
        if not check(program, network.inputs, outputs).passed:
            return
    pytest.fail("no network has shown the fault")


@pytest.mark.rtl
@pytest.mark.parametrize("config", [TINY, DEPTHWISE], ids=lambda config: config.name)
def test_rtl_equals_golden(config: Config):
    @few(8)
    @given(networks())
    def run_some(network: RandomNetwork):
        agrees(network, compiled(network, config), config, "rtl", 1)

    run_some()
