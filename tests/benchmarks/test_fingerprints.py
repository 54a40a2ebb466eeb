"""Fingerprints: what is new, gone or different is found; the kept file is read as it was written."""

import hashlib
from itertools import takewhile
from pathlib import Path

import pytest

from systolith.benchmarks.fingerprints import FILE, artefacts, compare, read, write
from systolith.errors import SystolithError

ONE, OTHER = (hashlib.sha256(data).hexdigest() for data in (b"one", b"other"))


def test_what_differs_is_listed():
    lines = compare({"same": ONE, "new": ONE, "changed": OTHER}, {"same": ONE, "gone": ONE, "changed": ONE})
    assert lines == ["changed: differs", "gone: is gone", "new: is new"]


def test_a_quick_run_misses_only_what_takes_long():
    expected = {"hardware/tpu256/tpu256.v": ONE, "zoo/resnet50_edge16.slp": ONE, "docs/isa.md": ONE}
    assert compare({}, expected, quick=True) == ["docs/isa.md: is gone"]


def test_the_file_is_read_as_it_was_written(tmp_path: Path):
    kept = {"docs/isa.md": ONE, "a/b.v": OTHER}
    write(kept, tmp_path / "kept.txt")
    assert read(tmp_path / "kept.txt") == kept
    assert list(read(tmp_path / "kept.txt")) == sorted(kept)


@pytest.mark.parametrize("line", ["x", f"{ONE} one", f"{ONE}  ", f"{ONE[1:]}  one"])
def test_a_damaged_line_is_refused(line: str, tmp_path: Path):
    (tmp_path / "kept.txt").write_text(f"{ONE}  one\n{line}\n")
    with pytest.raises(SystolithError, match=r"kept\.txt: line 2 must be a fingerprint and a name, not "):
        read(tmp_path / "kept.txt")


@pytest.mark.slow
def test_pages_and_the_smallest_hardware_are_as_they_were():
    kept = read(FILE)
    made = list(takewhile(lambda item: not item[0].startswith("hardware/ecp5_8"), artefacts(quick=True)))
    assert len(made) == 7
    assert [name for name, data in made if hashlib.sha256(data).hexdigest() != kept[name]] == []
