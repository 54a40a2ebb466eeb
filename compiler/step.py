"""A step of the schedule: what becomes an instruction."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """One instruction to be: its fields, the constants it needs (by CONFIG format), and the layer it works for."""

    name: str
    fields: Mapping[str, int]
    constants: Mapping[str, Mapping[str, int]]
    layer: int
