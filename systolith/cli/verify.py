"""`systolith verify` and `systolith doctor`: tables of testbenches and of tools."""

import shlex
import sys
import time
from collections.abc import Iterable

from rich.table import Table

from systolith.config import Config
from systolith.console.tables import show

__all__ = ["show_tools", "verify_config"]

LOG_LINES = 30


def verify_config(name: str, config: Config, seeds: range, only: str | None) -> bool:
    """Run the testbenches, show a table and what failed. `name` is how the user calls `config`."""
    from systolith.sim.verify import Outcome, verify

    outcomes: dict[str, Outcome] = {}
    begin = time.monotonic()
    for outcome, seed, result in verify(config, seeds, only):
        outcomes[outcome.name] = outcome
        print(f"{outcome.name}: seed {seed} {'passed' if result.passed else 'FAILED'}, {result.cycles} cycles",
              file=sys.stderr, flush=True)  # fmt: skip
    table = Table(title=f"{config.name}: {len(outcomes)} testbenches in {time.monotonic() - begin:.0f} s")
    for title in ("testbench", "runs", "tests", "cycles", "coverage", "result"):
        table.add_column(title, justify="left" if title in ("testbench", "result") else "right")
    for outcome in sorted(outcomes.values(), key=lambda item: item.name):
        table.add_row(outcome.name, str(outcome.runs), str(outcome.tests), f"{outcome.cycles:,}",
                      _coverage(outcome.coverage.values()), _result(outcome.failed))  # fmt: skip
    show(table)
    for outcome in outcomes.values():
        for seed, log in outcome.failed.items():
            print(f"\n{outcome.name}, seed {seed}:")
            print("\n".join(f"  {line}" for line in _relevant(log)))
            print(f"repeat: systolith verify --config {shlex.quote(name)} --bench {outcome.name} --seed {seed}")
    return not any(outcome.failed for outcome in outcomes.values())


def show_tools() -> bool:
    """A table of the tools; False if one is missing."""
    from systolith.sim.doctor import examine

    findings = examine()
    table = Table(title="What Systolith needs")
    for title in ("tool", "version", "found", "to do"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        table.add_row(finding.tool, finding.version or "-", finding.place or "missing", finding.advice or "-")
    show(table)
    return not any(finding.advice for finding in findings)


def _coverage(counts: Iterable[int]) -> str:
    counts = list(counts)
    return f"{sum(1 for count in counts if count)} / {len(counts)} points"


def _result(failed: dict[int, str]) -> str:
    return f"FAILED, seed {', '.join(map(str, sorted(failed)))}" if failed else "passed"


def _relevant(log: str) -> list[str]:
    """The lines that say why: from the first failure on, or the last ones if the simulator itself ended."""
    lines = log.splitlines()
    first = next((i for i, line in enumerate(lines) if " failed" in line or "Traceback" in line), len(lines))
    return lines[first : first + LOG_LINES] or lines[-LOG_LINES:]
