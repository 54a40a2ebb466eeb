"""The random campaign: cases come from their seed alone, differences are failures, and the sums are right."""

import os
from collections import Counter

import pytest

from systolith import SystolithError
from systolith.compiler import network
from systolith.errors import UnsupportedError
from systolith.sim import campaign, run
from systolith.sim.campaign import CONFIGS, Verdict, make_case, run_case
from systolith.sim.compare import outputs, whole_network
from tests.support.seeds import seeds


def test_configurations_cover_what_they_should():
    assert {config.array for config in CONFIGS} == {4, 8, 12, 16, 32}
    assert {config.axi_data_bits for config in CONFIGS} == {64, 128, 256}
    assert len({config.fingerprint for config in CONFIGS}) == len({config.name for config in CONFIGS}) == len(CONFIGS)
    assert {config.sfu_lanes == config.array for config in CONFIGS} == {True, False}
    assert {config.dw_taps for config in CONFIGS} == {0, 1, 3, 9}
    assert min(config.queue_depth for config in CONFIGS) == 2
    assert {make_case(seed).config.name for seed in range(100)} == {config.name for config in CONFIGS}


def test_a_case_is_made_from_its_seed_alone():
    models, programs = (next(seed for seed in range(1, 99) if bool(make_case(seed).program) == kind) for kind in (0, 1))
    for seed in (models, programs):
        first, again, other = make_case(seed), make_case(seed), make_case(seed + 200)
        assert (first.config, first.memory, first.model) == (again.config, again.memory, again.model)
        assert all((first.inputs[name] == again.inputs[name]).all() for name in first.inputs)
        assert (first.model, first.memory) != (other.model, other.memory)
    first, again = make_case(programs), make_case(programs)
    assert first.program
    assert again.program
    assert first.program.program == again.program.program
    assert (first.program.input == again.program.input).all()


@seeds(12, first=1)
def test_cases_on_the_instruction_simulator(seed):
    verdict = run_case(seed, "isa")
    assert verdict.kind in ("equal", "one step", "golden only", "equal program", "equal fault"), verdict.message


def test_a_program_that_differs_is_a_failure(monkeypatch):
    seed = next(seed for seed in range(1, 99) if make_case(seed).program and not make_case(seed).broken)
    monkeypatch.setattr(campaign, "compare", lambda *_: (5, 100))
    verdict = run_case(seed, "isa")
    assert (verdict.kind, verdict.message) == ("FAILED", "5 bytes differ from the instruction simulator")


def test_a_broken_program_that_differs_is_a_failure(monkeypatch):
    seed = next(seed for seed in range(1, 99) if make_case(seed).broken)
    assert make_case(seed).program
    assert run_case(seed, "isa").kind == "equal fault"
    monkeypatch.setattr(campaign, "compare_fault", lambda *_: "the RTL reports another fault")
    verdict = run_case(seed, "rtl")
    assert (verdict.kind, verdict.message) == ("FAILED", "the RTL reports another fault")


def test_what_goes_wrong_after_compilation_is_a_failure(monkeypatch):
    seed = next(seed for seed in range(1, 99) if make_case(seed).model)
    monkeypatch.setattr(outputs, "check", lambda *_: outputs.Check(3, 2))
    verdict = run_case(seed, "isa")
    assert (verdict.kind, verdict.message) == (
        "FAILED",
        "3 elements differ from golden, 2 from ONNX Runtime, 0 of host parts from the whole model, 0 by reading",
    )

    def stopped(*_):
        raise SystolithError("the accelerator stopped")

    monkeypatch.setattr(run, "run", stopped)
    verdict = run_case(seed, "isa")
    assert (verdict.kind, verdict.message) == ("FAILED", "SystolithError: the accelerator stopped")


def test_summary_names_the_seed_and_how_to_repeat_it(capsys):
    verdicts = [Verdict(5, "equal", "tiny4", 100), Verdict(6, "FAILED", "edge16", 20, "1 elements differ"),
                Verdict(7, "refused", "tiny4", message="too large")]  # fmt: skip
    assert campaign.summarize(iter(verdicts)) == 1
    out = capsys.readouterr().out
    assert "seed 6 on edge16: FAILED: 1 elements differ\n" in out
    assert "-m systolith.sim.campaign --only 6\n" in out
    assert "by configuration: edge16 1, tiny4 1\n" in out
    assert "120 cycles in 0 s: FAILED 1, equal 1, refused 1\n" in out
    assert campaign.summarize(iter(verdicts[:1])) == 0


def test_the_campaign_goes_on_until_enough_were_compared(monkeypatch):
    kinds = Counter(verdict.kind for verdict in campaign.campaign(iter(range(1, 99)), 6, "isa", 1))
    assert sum(kinds.values()) - kinds["refused"] == 6


def test_only_repeats_one_case(capsys):
    assert campaign.main(["--only", "3", "--backend", "isa"]) == 0
    assert f'name = "{make_case(3).config.name}"' in capsys.readouterr().out


@pytest.mark.slow
def test_a_case_that_ends_its_process_is_a_failure(monkeypatch):
    """Only that one: the others that were running are run again."""
    monkeypatch.setattr(campaign, "run_case", die_at_two)
    verdicts = {verdict.seed: verdict for verdict in campaign.campaign(iter(range(1, 99)), 4, "isa", 1)}
    assert {seed: verdict.kind for seed, verdict in verdicts.items()} == {
        1: "equal",
        2: "FAILED",
        3: "equal",
        4: "equal",
    }
    assert (verdicts[2].message, verdicts[2].config) == ("the process died", make_case(2).config.name)


def die_at_two(seed: int, backend: str, host: bool) -> Verdict:
    if seed == 2:
        os._exit(1)
    return Verdict(seed, "equal", "tiny4")


@pytest.fixture(scope="module")
def passing() -> int:
    """A host case that passes."""
    return next(seed for seed in range(1, 99) if run_case(seed, "isa", host=True).kind in ("equal", "one step"))


def test_host_cases_are_judged_as_a_whole(passing, monkeypatch):
    monkeypatch.setattr(
        whole_network, "judge", lambda *_: whole_network.Judgement(("output 'y': 1 of 2 differ",), 9, 0)
    )
    verdict = run_case(passing, "isa", host=True)
    assert (verdict.kind, verdict.message) == ("FAILED", "output 'y': 1 of 2 differ")


def test_a_host_case_that_onnx_runtime_refuses_too_has_no_values(passing, monkeypatch):
    def refused(*_):
        raise SystolithError("ONNX Runtime refuses the model: k is too large")

    monkeypatch.setattr(run, "run", refused)
    verdicts = [run_case(passing, "isa", host=True)]
    monkeypatch.setattr(whole_network, "has_values", lambda *_: False)
    verdicts.append(run_case(passing, "isa", host=True))
    assert [verdict.kind for verdict in verdicts] == ["FAILED", "no values"]


def test_a_host_case_may_be_refused_only_where_nothing_is_for_the_accelerator(monkeypatch):
    def refused(*_):
        raise UnsupportedError(reasons.pop(0), "")

    reasons = ["model: nothing of it can run on the accelerator; ...", "model: Loop 'x' is not supported"]
    monkeypatch.setattr(network, "compile_network", refused)
    assert [run_case(1, "isa", host=True).kind for _ in range(2)] == ["refused", "FAILED"]
