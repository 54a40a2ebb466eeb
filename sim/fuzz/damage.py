"""Changes of plain bytes and values, which every format has."""

import numpy as np

__all__ = ["INTEGERS", "REALS", "TEXTS", "damaged_bytes", "few", "pick"]

INTEGERS = (-(1 << 63), -(1 << 40), -(1 << 31), -129, -2, -1, 0, 1, 2, 3, 4, 7, 8, 11, 16, 64, 127, 128, 255, 256, 1000,
            65535, (1 << 20) + 1, 1 << 28, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 62,
            (1 << 63) - 1)  # fmt: skip
REALS = (-1.0, -0.0, 0.0, 1e-45, 1e-40, 1e-6, 0.5, 1.0, 1e6, 3e38, 1e300, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", " ", "x", "é", "\0", "\n", "a/b", "../..", "a" * 300, "%s", "\u202e", "🦉")


def pick(rng: np.random.Generator, options):
    """One of a sequence, as it is."""
    return options[int(rng.integers(len(options)))]


def few(rng: np.random.Generator) -> int:
    """Changes to make: mostly one."""
    return int(rng.choice([1, 1, 1, 2, 3]))


def damaged_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """One change: bits, bytes, a number, a piece removed, repeated, moved or inserted, or the end cut off."""
    changed = bytearray(data)
    if not changed:
        return bytes(rng.integers(0, 256, 8, np.uint8))
    place = int(rng.integers(len(changed)))
    length = min(int(rng.integers(1, 17)), len(changed) - place)
    match int(rng.integers(8)):
        case 0:
            changed[place] ^= 1 << int(rng.integers(8))
        case 1:
            changed[place] = int(rng.integers(256))
        case 2:
            size = int(rng.choice([1, 2, 4, 8]))
            number = pick(rng, INTEGERS) & (1 << 8 * size) - 1
            changed[place : place + size] = number.to_bytes(size, "little")[: len(changed) - place]
        case 3:
            del changed[place : place + length]
        case 4:
            changed[place:place] = changed[place : place + length] * int(rng.integers(1, 9))
        case 5:
            changed[place:place] = bytes(rng.integers(0, 256, length, np.uint8))
        case 6:
            other = int(rng.integers(len(changed)))
            changed[place : place + length] = changed[other : other + length]
        case _:
            del changed[place:]
    return bytes(changed)
