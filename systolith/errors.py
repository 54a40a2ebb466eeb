"""The exceptions that mean "the user's input, not our program": printed as one line, exit code 2."""

__all__ = ["SystolithError", "UnsupportedError"]


class SystolithError(ValueError):
    """Bad input. The message says what was expected, what was found, and where; it is one line."""


class UnsupportedError(SystolithError):
    """A sound model with a node that the accelerator cannot run, but a host can. `node` is the node's first output."""

    def __init__(self, message: str, node: str):
        super().__init__(message)
        self.node = node
