"""Verilator's lint of the generated Verilog is clean, and it would say so if it were not."""

import pytest

from systolith import PRESETS
from systolith.hw import generate
from systolith.sim.rtl import lint


@pytest.mark.slow
def test_generated_verilog_is_clean():
    assert lint.lint(PRESETS["tiny4"]) == ""


@pytest.mark.slow
def test_a_warning_is_found(monkeypatch, capsys):
    """A waiver that is missing."""
    monkeypatch.setattr(generate, "WAIVERS", "`verilator_config\n")
    found = lint.lint(PRESETS["tiny4"])
    assert "%Warning" in found
    monkeypatch.setattr(lint, "lint", lambda _: found)
    assert lint.main(["tiny4"]) == 1
    assert "verilator lint of tiny4: warnings" in capsys.readouterr().out
