"""`systolith verify`: finds the testbenches, runs them with their seeds, and says how to repeat a failure."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from systolith import PRESETS, SystolithError
from systolith.cli.verify import verify_config
from systolith.sim import verify
from systolith.sim.rtl.bench_runner import Result
from systolith.sim.verify import Outcome

TINY = PRESETS["tiny4"]


def test_every_testbench_is_found():
    found = verify.names()
    assert set(found) >= {"tokens", "registers", "requantize", "act_sram"}
    assert all(module.endswith("_bench") for module in found.values())


@pytest.mark.rtl
def test_a_testbench_runs_with_each_seed():
    seen = [(outcome.name, seed, result.passed) for outcome, seed, result in verify.verify(TINY, range(4, 6), "tokens")]
    assert sorted(seen) == [("tokens", 4, True), ("tokens", 5, True)]


def test_unknown_testbench():
    with pytest.raises(SystolithError, match=r"^Testbench must be one of .*tokens.* for 'tiny4', not 'token'$"):
        next(verify.verify(TINY, range(1, 2), "token"))


def test_a_testbench_of_a_unit_that_is_not_there(monkeypatch):
    """All testbenches run on any configuration; one that has no depthwise unit has no testbench of it."""
    with pytest.raises(SystolithError, match="for 'tiny4', not 'depthwise'"):
        next(verify.verify(TINY, range(1, 2), "depthwise"))
    monkeypatch.setattr(verify, "_run", lambda module, config, seed: Result(True, 1, 1, {}, ""))
    monkeypatch.setattr(verify, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    for config in (TINY, PRESETS["edge16_dw"]):
        seen = {outcome.name for outcome, _, _ in verify.verify(config, range(1, 2))}
        assert seen == set(verify.names()) - (set() if config.dw_taps else {"depthwise"})


def test_a_failure_is_shown_with_how_to_repeat_it(monkeypatch, capsys):
    def runs(*_):
        outcome = Outcome("sfu")
        for seed, result in ((8, Result(True, 2, 100, {"a": 3, "b": 0}, "")), (9, Result(False, 2, 50, {"b": 1}, LOG))):
            outcome.add(seed, result)
            yield outcome, seed, result

    monkeypatch.setattr(verify, "verify", runs)
    assert not verify_config("my board.toml", TINY, range(8, 10), None)
    out, err = capsys.readouterr()
    row = next(line for line in out.splitlines() if "sfu" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["sfu", "2", "4", "150", "2 / 2 points", "FAILED, seed 9"]
    assert "  AssertionError: cycle 17\n" in out
    assert "quiet line" not in out
    assert "repeat: systolith verify --config 'my board.toml' --bench sfu --seed 9\n" in out
    assert "sfu: seed 8 passed, 100 cycles\nsfu: seed 9 FAILED, 50 cycles\n" in err


LOG = "quiet line\n  1.00ns WARNING  ..a.sums failed\nTraceback (most recent call last):\nAssertionError: cycle 17\n"
