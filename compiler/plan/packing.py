"""Packing of tensors into activation SRAM: which fit, and at which words. Rectangles of words by layers.
 The first order tried is that of the layers, each tensor in banks that no other unit reads at the same time, which
avoids bank conflicts. If not all tensors find room so, tighter orders are tried; tensors that found none are moved to
the front a few times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from systolith.compiler.plan.liveness import Lifetime

__all__ = ["fit"]

REPAIRS = 8
"""How often tensors without a place are tried first."""

Starts = Mapping[str, int]


def fit(lives: Sequence[Lifetime], depth: int, banks: int) -> Starts:
    """First words by tensor. Tensors that nothing was found for are missing: those with the least traffic, if it was
    possible to choose."""
    packing = _Packing(lives, depth, depth // banks)
    lives = [life for life in lives if life.words <= depth]
    best = packing.place(lives, packing.by_banks)
    if len(best) == len(lives):
        return best
    orders: list[Callable[[Lifetime], tuple]] = [
        lambda life: (life.first,),
        lambda life: (-life.words, life.first),
        lambda life: (-life.words * (life.last - life.first + 1), life.first),
        lambda life: (life.last - life.first, -life.words),
        lambda life: (-(1 + life.reads) / (life.last - life.first + 1), -life.words),
    ]
    for order in orders:
        best = _better(lives, best, packing.place(sorted(lives, key=order), packing.by_edges))
    for _ in range(REPAIRS):
        if len(best) == len(lives):
            break
        again = sorted(lives, key=lambda life: (life.name in best, best.get(life.name, 0), life.first))
        best = _better(lives, best, packing.place(again, packing.by_edges))
    return best


def _better(lives: Sequence[Lifetime], first: Starts, second: Starts) -> Starts:
    """The one that keeps more traffic on the chip."""
    return max(first, second, key=lambda starts: sum(life.traffic for life in lives if life.name in starts))


@dataclass(frozen=True)
class _Packing:
    """Places tensors one after the other."""

    lives: Sequence[Lifetime]
    depth: int
    bank: int

    def place(self, order: Sequence[Lifetime], choose: Callable) -> dict[str, int]:
        """Starts of the tensors that found room, in that order."""
        placed: dict[str, int] = {}
        alive: list[Lifetime] = []
        for life in order:
            near = [(other, placed[other.name]) for other in alive if life.meets(other)]
            starts = self._starts(life, near)
            if starts:
                placed[life.name] = choose(life, starts, near)
                alive.append(life)
        return placed

    def by_banks(self, life: Lifetime, starts: set[int], near: list[tuple[Lifetime, int]]) -> int:
        """In place of another if possible, away from rivals, then near an end."""
        taken = {start for other, start in near if _shares(life, other)}
        rivals = {bank for other, start in near if other.name in life.rivals for bank in self._banks(start, other)}

        def rank(start: int):
            shared = sum(bank in rivals for bank in self._banks(start, life))
            return start not in taken, shared, min(start, self.depth - start - life.words), start

        return min(starts, key=rank)

    def by_edges(self, life: Lifetime, starts: set[int], near: list[tuple[Lifetime, int]]) -> int:
        """In place of another if possible, then the lowest."""
        taken = {start for other, start in near if _shares(life, other)}
        return min(starts, key=lambda start: (start not in taken, start))

    def _starts(self, life: Lifetime, near: list[tuple[Lifetime, int]]) -> set[int]:
        """Where the tensor could begin: at an end of the SRAM, beside a tensor, or in its place."""
        edges = {0, self.depth - life.words}
        for other, start in near:
            edges |= {start + other.words, start - life.words}
            edges |= {start} if _shares(life, other) else set()
        return {edge for edge in edges if 0 <= edge <= self.depth - life.words and self._is_free(edge, life, near)}

    def _is_free(self, start: int, life: Lifetime, near: list[tuple[Lifetime, int]]) -> bool:
        return all(
            start + life.words <= first or first + other.words <= start or (start == first and _shares(life, other))
            for other, first in near
        )

    def _banks(self, start: int, life: Lifetime) -> range:
        return range(start // self.bank, (start + life.words - 1) // self.bank + 1)


def _shares(first: Lifetime, second: Lifetime) -> bool:
    """Whether one of the two may be written in place of the other."""
    return first.name in second.over or second.name in first.over
