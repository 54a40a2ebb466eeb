"""Files written whole: what is replaced, and what is not."""

import os
from pathlib import Path

import pytest

from systolith import SystolithError
from systolith.cli.outputs import check_outputs
from systolith.file_io import read_whole, replacing, write_whole


def test_writing_replaces_regular_files_only(tmp_path):
    """What is no regular file, as a device or a pipe, takes the bytes and stays; a link still leads to its file."""
    pipe, file, link = (tmp_path / name for name in ("pipe", "file", "link"))
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, b"abc")
        assert pipe.is_fifo() and os.read(reader, 10) == b"abc"
    finally:
        os.close(reader)
    file.write_bytes(b"old")
    link.symlink_to(file)
    write_whole(link, b"new")
    assert link.is_symlink() and file.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    with replacing(path) as temporary:
        assert temporary.suffix == ".bin"
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_long_names(tmp_path):
    """A name that is as long as a name may be is one that can be written; a longer one is refused in one line."""
    write_whole(tmp_path / ("a" * 255), b"long")
    assert read_whole(tmp_path / ("a" * 255)) == b"long"
    for path in (tmp_path / ("a" * 256), tmp_path / "a\0b", tmp_path / "none" / "file"):
        with pytest.raises(SystolithError, match="cannot be written: "):
            write_whole(path, b"")


@pytest.mark.parametrize("name", ["a" * 256, "none/file", "folder", "kept", "source", "twice"])
def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path, monkeypatch, name):
    (tmp_path / "folder").mkdir()
    for file in ("kept", "source"):
        (tmp_path / file).write_bytes(b"")
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "kept" and may(path, mode))
    outputs = [tmp_path / "twice", tmp_path / name]
    with pytest.raises(SystolithError, match=r"^[^\n]*: (cannot be written: |must be another file)"):
        check_outputs(outputs, [tmp_path / "source"])
    check_outputs([tmp_path / "free", None], [tmp_path / "source"])


def test_a_pipe_is_read_to_its_end(tmp_path):
    read, write = os.pipe()
    os.write(write, b"abc" * 1000)
    os.close(write)
    try:
        assert read_whole(Path(f"/dev/fd/{read}")) == b"abc" * 1000
    finally:
        os.close(read)
    (tmp_path / "file").write_bytes(b"abc")
    assert read_whole(tmp_path / "file", largest=3) == b"abc"
    with pytest.raises(SystolithError, match="file: must have at most 2 bytes"):
        read_whole(tmp_path / "file", largest=2)
