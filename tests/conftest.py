"""Settings of all tests: how many seeds they run, and that hypothesis does not judge how fast a busy machine is."""

from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.support import seeds


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("systolith")
    group.addoption("--seeds", type=int, default=1, metavar="N", help="run N times as many seeds and examples")
    group.addoption("--seed", type=int, default=None, metavar="N", help="in tests with many seeds, run this one alone")


def pytest_configure(config: pytest.Config) -> None:
    factor, only = config.option.seeds, config.option.seed
    if factor < 1:
        raise pytest.UsageError(f"--seeds must be at least 1, not {factor}")
    seeds.choose(factor, only)
    settings.register_profile("systolith", deadline=None, print_blob=True, max_examples=seeds.many(100))
    settings.load_profile("systolith")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Names the seed that failed."""
    seeds.begin()
    try:
        return (yield)
    except BaseException as error:
        note = seeds.note(item.nodeid)
        if note:
            error.add_note(note)
        raise
