"""Seeds: one test id runs many of them.

`pytest --seeds 10` runs ten times as many, of every test that asks here; `pytest <test> --seed 17` runs that one alone.
A failure says with which seeds, and how to repeat the first.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from inspect import Parameter, Signature, signature

import pytest


class _Run:
    """What the command line asks for (`tests/conftest.py` sets it before it imports any test), and where a test is."""

    factor = 1
    only: int | None = None
    seed: int | None = None
    failed: list[int] = []


def choose(factor: int, only: int | None) -> None:
    _Run.factor, _Run.only = factor, only


def many(count: int) -> int:
    """How many seeds, examples or samples `count` becomes."""
    return count * _Run.factor


def seeds(count: int, first: int = 0, each: int = 0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Calls a test once for each value of its argument `seed`, whichever fail; with the same fixtures.

    `each`, if given, is how many of them one id runs, for tests that take seconds.
    """
    numbers = range(first, first + many(count))
    parts = [numbers[i : i + each] for i in range(0, len(numbers), each)] if each else [numbers]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def loop(part: range = numbers, **arguments: object) -> None:
            if each and _Run.only is not None and _Run.only not in part:
                pytest.skip(f"seed {_Run.only} is in another part")
            _call(test, part, arguments)

        given = [parameter for name, parameter in signature(test).parameters.items() if name != "seed"]
        given += [Parameter("part", Parameter.KEYWORD_ONLY)] if each else []
        loop.__signature__ = Signature(given)  # pyright: ignore[reportAttributeAccessIssue]
        return pytest.mark.parametrize("part", parts, ids=lambda part: f"{part[0]}-{part[-1]}")(loop) if each else loop

    return decorate


def each_seed(numbers: Iterable[int]) -> Iterator[int]:
    """The seeds of a loop inside a test that counts over all of them; it ends with the first that fails."""
    yield from _numbered(numbers)
    if _Run.only is not None:
        pytest.skip(f"seed {_Run.only} is right; what is counted over all seeds is not checked")


def _numbered(numbers: Iterable[int]) -> Iterator[int]:
    """Notes which one runs."""
    for seed in numbers if _Run.only is None else [_Run.only]:
        _Run.seed = seed
        yield seed
    _Run.seed = None


def _call(test: Callable[..., None], part: Iterable[int], arguments: dict[str, object]) -> None:
    first: BaseException | None = None
    for seed in _numbered(part):
        try:
            test(seed=seed, **arguments)
        except (Exception, pytest.fail.Exception) as error:
            _Run.failed.append(seed)
            first = error if first is None else first
    if first is not None:
        raise first


def begin() -> None:
    """A test begins: no seed of it has failed."""
    _Run.seed, _Run.failed = None, []


def note(test: str) -> str | None:
    """What to add to the failure of the test with this id, if it was one of a seed."""
    failed = _Run.failed or ([] if _Run.seed is None else [_Run.seed])
    if not failed:
        return None
    more = "" if _Run.factor == 1 else f" --seeds {_Run.factor}"
    return f"seeds that failed: {', '.join(map(str, failed))}; to repeat: pytest '{test}' --seed {failed[0]}{more}"
