"""Runs the examples in a page: `played` gives the page with what its commands and its Python print today.

Two kinds of fenced blocks are run, in the order of the page, in one folder and with one set of Python's names:

- `console`: its first line is `$ systolith ...`; what the command prints follows.
- `python`: where it prints something, a block `text` follows, with what is printed.
"""

import os
import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from systolith.cli import app

__all__ = ["played"]

BLOCK = re.compile(r"^```(console|python|text)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
PROMPT = "$ systolith "


def played(page: str, folder: Path) -> str:
    """The page with today's outputs. `folder` is where the commands run."""
    names: dict[str, Any] = {}
    printed = None

    def play(block: re.Match[str]) -> str:
        nonlocal printed
        kind, content = block[1], block[2]
        if kind == "console":
            command = content.splitlines()[0]
            assert command.startswith(PROMPT), command
            content = f"{command}\n{_printed(lambda: _call(command.removeprefix(PROMPT)))}"
        elif kind == "python":
            assert not printed, f"A block of text must follow, with this output: {printed}"
            printed = _printed(lambda: exec(content, names))
        elif printed:
            content, printed = printed, None
        return f"```{kind}\n{content}```\n"

    before = Path.cwd()
    os.chdir(folder)
    try:
        result = BLOCK.sub(play, page)
    finally:
        os.chdir(before)
    assert not printed, f"A block of text must follow, with this output: {printed}"
    return result


def _call(arguments: str) -> None:
    app.app(shlex.split(arguments), standalone_mode=False)


def _printed(function) -> str:
    """What a function prints, without blanks at ends of lines."""
    with redirect_stdout(StringIO()) as out:
        function()
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
