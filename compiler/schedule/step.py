"""Step of the schedule: it becomes one instruction."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """One instruction to be: its fields, the constants it needs (by CONFIG format), the layer it works for, and the
    SFU's table, 256 bytes, if it looks up."""

    name: str
    fields: Mapping[str, int]
    constants: Mapping[str, Mapping[str, int]]
    layer: int
    table: bytes | None = None
