"""A host part on its own: its nodes, run under ONNX Runtime as ONNX has their operators. (Its fused kernels are not
always right.)"""

from collections.abc import Mapping
from typing import Any

from systolith.errors import SystolithError
from systolith.network import HostPart
from systolith.runtime import Value
from systolith.sim.reference import reference

__all__ = ["described", "run_host"]

LISTED = 4
"""Nodes in an error."""


def run_host(part: HostPart, inputs: Mapping[str, Value]) -> dict[str, Any]:
    """Outputs by name. Raises SystolithError, which names its nodes, where ONNX Runtime has none for these inputs."""
    try:
        return reference.run(part.model, inputs, "none")
    except SystolithError as error:
        raise SystolithError(f"Host part of {described(part)}: {error}") from None


def described(part: HostPart) -> str:
    """Its nodes, for a report."""
    nodes = [f"{node.op} '{node.name}'" for node in part.nodes]
    more = f" and {len(nodes) - LISTED} more" if len(nodes) > LISTED else ""
    return ", ".join(nodes[:LISTED]) + more if nodes else "no nodes"
