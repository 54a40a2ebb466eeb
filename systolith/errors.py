"""The exceptions that mean "the user's input, not our program": printed as one line, exit code 2."""

from typing import Any

__all__ = ["SystolithError", "UnsupportedError"]


class SystolithError(ValueError):
    """Bad input. The message says what was expected, what was found, and where; it is one line."""

    def __reduce__(self):
        """From another process it comes as it is, whatever its constructor takes."""
        return _again, (type(self), self.args, self.__dict__)


class UnsupportedError(SystolithError):
    """A sound model with a node that the accelerator cannot run, but a host can. `node` is the node's first output;
    `others` are errors of more such nodes, where somebody looked for them."""

    def __init__(self, message: str, node: str):
        super().__init__(message)
        self.node = node
        self.others: tuple[UnsupportedError, ...] = ()


def _again(kind: type[SystolithError], arguments: tuple, values: dict[str, Any]) -> SystolithError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(values)
    return error
