"""Text for a terminal. Names come from model files: what would move the cursor, ring or hide text is shown escaped."""

__all__ = ["printable", "say"]


def printable(text: str, keep: str = "") -> str:
    """The text with escapes in place of characters that are not printable, but for those in `keep`."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """Print text of one or more lines."""
    print(printable(text, keep="\n"))
