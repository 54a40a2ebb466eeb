"""The one exception that means "the user's input, not our program": printed as one line, exit code 2."""

__all__ = ["SystolithError"]


class SystolithError(ValueError):
    """Bad input. The message says what was expected, what was found, and where; it is one line."""
