"""Files written whole: what is replaced, and what is not."""

import os

from systolith.whole_files import write_whole


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
