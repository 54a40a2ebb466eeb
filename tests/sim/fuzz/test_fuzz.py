"""The fuzzers: a short run of each kind is clean; and each sees what it is there for."""

import contextlib
import sys
from collections import Counter

import numpy as np
import pytest

from systolith import SystolithError, program
from systolith.network import Network
from systolith.sim.compare.outputs import Check
from systolith.sim.fuzz import campaign, program_files, worker
from systolith.sim.fuzz.campaign import Findings, fuzz
from systolith.sim.fuzz.case import Wrong
from systolith.sim.fuzz.damage import damaged_bytes
from systolith.sim.fuzz.program_parts import joined_program, joined_records, sections
from tests.support.seeds import many

COUNTS = {"config": 2000, "inputs": 1500, "program": 250, "network": 200, "onnx": 150}
"""Files of each kind; their seeds are not those of `make fuzz`."""
SEED = 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_a_short_run_is_clean(kind):
    count = many(COUNTS[kind])
    found = fuzz(kind, range(SEED, SEED + count))
    assert found.wrong == {}
    assert found.count == count
    assert found.outcomes["refused"] > count // 3
    assert found.outcomes["right"] > count // 100


def test_every_kind_is_tried():
    assert COUNTS.keys() == worker.KINDS.keys()


def test_cases_are_made_from_their_seed():
    for make, _ in worker.KINDS.values():
        first, again, other = make(5), make(5), make(6)
        assert first.data == again.data
        assert first.data != other.data


FAULTS = {
    2: ("os.abort()", "the process ended with -6"),
    4: ("sys.exit(0)", "it: SystemExit: 0"),
    5: ("while True: pass", "it: takes more than 1 seconds"),
    6: ("bytearray(3 << 30)", "it: MemoryError"),
    8: (
        "raise SystolithError('ONNX Runtime refuses the model: std::bad_alloc')",
        "it: refused by 'ONNX Runtime refuses",
    ),
    9: ("raise KeyError('x')", "it: KeyError: 'x' <string>:"),
    10: ("raise Wrong('another result')", "another result"),
    11: ("warnings.warn('careful')", "it: UserWarning: careful"),
    12: ("time.sleep(1000)", "no answer"),
}
JUDGE = f"""
import os, sys, time, warnings
from systolith import SystolithError
from systolith.sim.fuzz import worker
from systolith.sim.fuzz.case import Case, Wrong

def judge(case, folder):
    exec({ {seed: fault for seed, (fault, _) in FAULTS.items()} }.get(int(case.data), ""))
    return "right"

worker.SECONDS = 1
worker.KINDS["config"] = (lambda seed: Case(b"%d" % seed, "", "it"), judge)
worker.main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.mark.slow
def test_what_goes_wrong_is_seen_and_the_rest_goes_on():
    found = fuzz("config", range(1, 15), command=[sys.executable, "-c", JUDGE], patience=20)
    assert found.outcomes == {"right": 14 - len(FAULTS)}
    assert found.wrong.keys() == FAULTS.keys()
    for seed, (_, reason) in FAULTS.items():
        assert found.wrong[seed].startswith(reason)


def test_a_changed_weight_is_seen_by_the_check(tmp_path):
    """A program that computes something else, with right checksums, runs, and is not taken for the original."""
    make, judge = worker.KINDS["program"]
    outcomes = {}
    for seed in range(60):
        case = make(seed)
        try:
            outcomes[seed] = judge(case, tmp_path)
        except SystolithError:
            continue
    assert "seen by the check" in outcomes.values()


def test_a_check_that_sees_nothing_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(program_files, "check", lambda *_: Check(0, 0))
    with pytest.raises(Wrong, match="another result, and the check passed"):
        for seed in range(60):
            with contextlib.suppress(SystolithError):
                program_files.judge(program_files.make_program(seed), tmp_path)


def test_what_is_taken_apart_can_be_put_together(tmp_path):
    index = program_files._seeds(Network)[0]
    data = program_files._file(index)
    assert joined_records(program_files._records(data)) == data
    inner = program_files._records(data)[0][1]
    numbers, contents = sections(inner)
    again = program.from_bytes(joined_program(numbers, contents), whole=False)
    assert again == program.from_bytes(inner, whole=False)


def test_the_command_line_names_what_is_wrong(monkeypatch, capsys, tmp_path):
    wrong = Findings(Counter({"refused": 3}), {7: "a death"})
    monkeypatch.setattr(campaign, "fuzz", lambda *_: wrong)
    assert campaign.main(["--kind", "config", "--count", "4", "--keep", str(tmp_path / "kept")]) == 1
    assert "config: 4 files in 0 s: 3 refused; 1 wrong\n  config 7: a death\n" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["config_7.toml"]
    monkeypatch.setattr(campaign, "fuzz", lambda *_: Findings(Counter({"refused": 4})))
    assert campaign.main(["--kind", "config", "--count", "4"]) == 0


def test_damage_of_nothing():
    assert damaged_bytes(np.random.default_rng(1), b"")
