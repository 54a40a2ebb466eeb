"""Tables for the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["layer_table", "percent", "show"]

WIDTH = 140
"""Columns of a table that does not go to a terminal."""


def show(table: Table) -> None:
    """Print it; a pipe or a file gets the whole width."""
    console = Console(highlight=False)
    (console if console.is_terminal else Console(width=WIDTH, highlight=False)).print(table)


def layer_table(report: dict[str, Any]) -> Table:
    """Layers of a run's report, and their sum."""
    table = Table(
        title=f"{report['model'] or 'network'} on {report['config']}, backend {report['backend']}",
        caption="cycles of a layer: from the end of the one before to its own end",
    )
    for title in ("layer", "op", "MACs", "cycles", "utilization"):
        table.add_column(title, justify="left" if title in ("layer", "op") else "right")
    for layer in report["layers"]:
        table.add_row(layer["name"], layer["op"], f"{layer['macs']:,}", _count(layer["cycles"]),
                      percent(layer["utilization"]))  # fmt: skip
    table.add_section()
    table.add_row("all", "", f"{report['macs']:,}", _count(report["cycles"]), percent(report["utilization"]))
    return table


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
