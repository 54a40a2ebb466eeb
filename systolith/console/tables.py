"""Tables for the terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from systolith.console.terminal import printable
from systolith.network import HostNode

__all__ = ["host_table", "layer_table", "percent", "show"]

WIDTH = 140
"""Columns of a table that does not go to a terminal."""


def show(table: Table) -> None:
    """Print it; a pipe or a file gets the whole width."""
    width = None if Console().is_terminal else WIDTH
    # Names may have brackets and colons, which mean nothing here.
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)


def layer_table(report: dict[str, Any]) -> Table:
    """Layers of a run's report, and their sum."""
    table = Table(
        title=f"{printable(report['model']) or 'network'} on {report['config']}, backend {report['backend']}",
        caption="cycles of a layer: from the end of the one before to its own end",
    )
    for title in ("layer", "op", "MACs", "cycles", "utilization"):
        table.add_column(title, justify="left" if title in ("layer", "op") else "right")
    for layer in report["layers"]:
        table.add_row(printable(layer["name"]), layer["op"], f"{layer['macs']:,}", _count(layer["cycles"]),
                      percent(layer["utilization"]))  # fmt: skip
    table.add_section()
    table.add_row("all", "", f"{report['macs']:,}", _count(report["cycles"]), percent(report["utilization"]))
    return table


def host_table(nodes: Iterable[HostNode]) -> Table:
    """Nodes on the host, and why."""
    table = Table(title="On the host, under ONNX Runtime")
    for title in ("operator", "node", "MACs", "why"):
        table.add_column(title, justify="right" if title == "MACs" else "left", overflow="fold")
    for node in nodes:
        table.add_row(printable(node.op), printable(node.name), f"{node.macs:,}", printable(node.reason))
    return table


def percent(share: float | None) -> str:
    """A share of 1 as percent; 100.0 is all of it, nothing less."""
    if share is None:
        return "-"
    text = f"{100 * share:.1f} %"
    return "99.9 %" if text == "100.0 %" and share < 1 else text


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
