"""Errors of worker processes arrive as they were raised; one that cannot be unpickled would break the pool instead."""

import pickle

import pytest

from systolith.errors import SystolithError, UnsupportedError
from systolith.isa import Unit
from systolith.onnx_backend import Unsupported
from systolith.sim.host.fault import HardwareFault


@pytest.mark.parametrize("error", [
    SystolithError("message"), UnsupportedError("message", "node"), Unsupported("message", "node"),
    HardwareFault("WATCHDOG", Unit.SFU, 3, 5)])  # fmt: skip
def test_errors_are_pickled(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error) != ""
    assert vars(again) == vars(error)
