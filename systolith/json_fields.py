"""JSON from a file that anybody may have written: what is read is there, has its type, and lies in its range.

`read_json` gives the file's object as an `Item`; its methods read one field each, and name it where it is not
right. Fields that nobody reads may be anything.
"""

import json
from collections.abc import Collection
from typing import Any, TypeGuard

from systolith.errors import SystolithError

__all__ = ["LARGEST_JSON", "Item", "read_json"]

LARGEST_JSON = 1 << 24
"""Bytes of JSON that are read: in memory they are up to thirty times as many."""
LARGEST_NUMBER = (1 << 63) - 1
SHOWN = 60
"""Characters of a wrong value in an error."""


def read_json(content: bytes, where: str) -> "Item":
    """The JSON object in `content`. Raises SystolithError, which starts with `where`, if it is none."""
    if len(content) > LARGEST_JSON:
        raise SystolithError(f"{where} must be at most {LARGEST_JSON} bytes of JSON, not {len(content)}")
    try:
        value = json.loads(content)
    except ValueError:
        raise SystolithError(f"{where} must be JSON; it is none") from None
    except RecursionError:
        raise SystolithError(f"{where} must be JSON; it is nested too deeply") from None
    if not isinstance(value, dict):
        raise SystolithError(f"{where} must be a JSON object, not {_shown(value)}")
    return Item(value, where)


class Item:
    """A JSON object at `where`. Methods raise SystolithError for a field that is missing, or not as they say."""

    def __init__(self, values: dict[str, Any], where: str):
        self.values, self.where = values, where

    def has(self, key: str) -> bool:
        """Whether the object has this field."""
        return key in self.values

    def text(self, key: str, among: Collection[str] | None = None) -> str:
        """A string of whole characters, one of `among` if that is given."""
        value = self.values.get(key)
        if not _is_text(value) or (among is not None and value not in among):
            raise self._wrong(key, f"one of {', '.join(among)}" if among is not None else "a string", value)
        return value

    def integer(self, key: str, low: int = 0, high: int = LARGEST_NUMBER) -> int:
        """An integer in a range, both ends included."""
        value = self.values.get(key)
        if not _is_integer(value) or not low <= value <= high:
            raise self._wrong(key, f"an integer from {low} to {high}", value)
        return value

    def given(self, key: str) -> bool:
        """Whether the object has this field, and not null."""
        return self.values.get(key) is not None

    def require(self, key: str, holds: bool, expected: str) -> None:
        """Raises SystolithError, with what was expected of the field, unless it holds."""
        if not holds:
            raise self._wrong(key, expected, self.values.get(key))

    def item(self, key: str) -> "Item":
        """An object."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object", value)
        return Item(value, f"{self.where}.{key}")

    def items(self, key: str) -> list["Item"]:
        """A list of objects."""
        values = self._list(key, dict, "objects")
        return [Item(value, f"{self.where}.{key}[{i}]") for i, value in enumerate(values)]

    def texts(self, key: str) -> list[str]:
        """A list of strings."""
        values = self._list(key, str, "strings")
        if not all(map(_is_text, values)):
            raise self._wrong(key, "a list of strings", values)
        return values

    def text_lists(self, key: str) -> list[list[str]]:
        """A list of lists of strings."""
        values = self._list(key, list, "lists of strings")
        if not all(_is_text(text) for value in values for text in value):
            raise self._wrong(key, "a list of lists of strings", values)
        return values

    def pair(self, key: str) -> tuple[int, int]:
        """A list of two integers of at least 0."""
        value = self.values.get(key)
        if not _is_pair(value):
            raise self._wrong(key, "two integers", value)
        return value[0], value[1]

    def pairs(self, key: str) -> list[tuple[int, int]]:
        """A list of such lists."""
        values = self._list(key, list, "pairs of integers")
        if not all(map(_is_pair, values)):
            raise self._wrong(key, "a list of pairs of integers", values)
        return [(value[0], value[1]) for value in values]

    def sizes(self, key: str) -> Any:
        """A shape: sizes from 0 to 2^31 - 1, null where one is open; or null alone where the rank is."""
        values = self.values.get(key)
        if values is None and key in self.values:
            return None
        if not isinstance(values, list) or not all(v is None or (_is_integer(v) and 0 <= v < 1 << 31) for v in values):
            raise self._wrong(key, "a list of sizes", values)
        return tuple(values)

    def _list(self, key: str, kind: type, what: str) -> list:
        values = self.values.get(key)
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise self._wrong(key, f"a list of {what}", values)
        return values

    def _wrong(self, key: str, expected: str, value: Any) -> SystolithError:
        found = _shown(value) if key in self.values else "there is none"
        return SystolithError(f"{self.where}.{key} must be {expected}, not {found}")


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_pair(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) == 2 and all(_is_integer(v) and 0 <= v < 1 << 63 for v in value)


def _is_text(value: Any) -> TypeGuard[str]:
    """JSON can have halves of characters, which no file or terminal takes."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _shown(value: Any) -> str:
    """The value, or its beginning, in ASCII."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    shown = ascii(value[:SHOWN] if isinstance(value, str) else value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
