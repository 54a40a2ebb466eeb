"""A file to try, and what is to be said about it."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Case", "Wrong"]


@dataclass(frozen=True)
class Case:
    """A file's content, with which `suffix`, what was changed, and what its judge has to know."""

    data: bytes
    suffix: str
    change: str
    facts: dict[str, Any] = field(default_factory=dict)


class Wrong(AssertionError):
    """A file was taken that should not be, or gave a wrong result."""
