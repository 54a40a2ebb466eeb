"""What random operators draw alike, and what they require of their tensors."""

from collections.abc import Sequence
from typing import Any

from systolith.sim.stimulus.tensors import Impossible, Quantized, RandomTensors

__all__ = ["divisor", "moved", "numbers", "require", "without"]


def moved(net: RandomTensors, x: Quantized, op: str, others: Sequence[str], **attributes: Any) -> Quantized:
    """An operator that makes no new values: of integers, between QuantizeLinears, or with a scale of its own."""
    kind = net.integer(0, 3)
    y = net.node(op, [net.real(x), *others], **attributes)
    if kind != 1:
        return net.quantized(y, x if kind != 2 else None)
    values = net.reals[y]
    net.writer.nodes.pop()
    return net.integers(op, [x.name, *others], values, x, **attributes)


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :]) if axis < len(shape) else ()


def divisor(net: RandomTensors, n: int) -> int:
    return net.choice([d for d in range(1, n + 1) if n % d == 0])


def numbers(net: RandomTensors, count: int, low: int, high: int) -> list[int]:
    return [net.integer(low, high) for _ in range(count)]


def require(holds: bool) -> None:
    if not holds:
        raise Impossible("the operator is for tensors of another shape")
