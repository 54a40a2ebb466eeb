"""The random campaign: cases come from their seed alone, differences are failures, and the sums are right."""

from collections import Counter

import pytest

from systolith import SystolithError
from systolith.sim import campaign, check, run
from systolith.sim.campaign import CONFIGS, Verdict, make_case, run_case


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


@pytest.mark.parametrize("seed", range(1, 13))
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
    monkeypatch.setattr(check, "check", lambda *_: check.Check(3, 2))
    verdict = run_case(seed, "isa")
    assert (verdict.kind, verdict.message) == ("FAILED", "3 elements differ from golden, 2 from ONNX Runtime")

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
