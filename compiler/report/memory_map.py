"""Map of activation SRAM over time: a line for each layer, a letter for each tensor. Drawn from the META."""

from collections.abc import Mapping
from typing import Any

__all__ = ["memory_map"]

COLUMNS = 64
LABEL = 18
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FREE, STAGING = ".", "~"


def memory_map(meta: Mapping[str, Any]) -> str:
    """The picture and its legend, at most 100 characters wide."""
    memory, layers = meta["memory"], meta["layers"]
    size, columns = memory["words"], min(COLUMNS, memory["words"])
    tensors = {name: item for name, item in memory["tensors"].items() if item["sram"] is not None}
    letters = _letters(tensors)
    lines = [
        f"activation SRAM of {size:,} words ({_kib(memory, size)}): a line a layer, a column {size / columns:g} words",
        "CAPITALS: being written; small: kept; ~ staging buffers; . free; | ends a bank",
        "",
        f"{'':>4} {'layer':<{LABEL}} {_ruler(memory, columns)}    KiB",
    ]
    for index, layer in enumerate(layers):
        strip = _bars(_strip(index, layer, tensors, letters, size, columns), memory["banks"])
        kib = layer["words"]["used"] * memory["word_bytes"] / 1024
        lines.append(f"{index:>4} {_short(layer['name']):<{LABEL}} {strip} {kib:6.1f}")
    peak = memory["peak_words"]
    lines += ["", f"peak {peak:,} words ({_kib(memory, peak)}), {100 * peak / size:.0f} % of the SRAM"]
    lines += [_described(memory, name, tensors, letters) for name in tensors]
    return "\n".join(lines + _outside(memory))


def _outside(memory: Mapping[str, Any]) -> list[str]:
    """Lines on what passes through memory between layers."""
    spilled = {name: item for name, item in memory["tensors"].items() if item["region"] == "SCRATCH"}
    if not spilled:
        return ["nothing spilled: no tensor between layers goes to memory"]
    lines = [f"spilled: {len(spilled)} tensors in {memory['scratch_bytes']:,} bytes of scratch memory"]
    for name, item in spilled.items():
        first, last = item["layers"]
        place = f"SCRATCH+{item['offset']}"
        size = _kib(memory, item["words"])
        lines.append(f"      {place:<16} {size:>10}  {_short(name):<{LABEL}}  layers {first}-{last}")
    return lines


def _strip(index: int, layer: Mapping[str, Any], tensors, letters: Mapping[str, str], size: int, columns: int) -> str:
    """One character for each column; whatever has only a part of a column still shows."""
    cells = [FREE] * columns
    parts = [(start, words, STAGING) for start, words in layer["words"]["staging"]]
    for name, item in tensors.items():
        first, last = item["layers"]
        if first <= index <= last:
            letter = letters[name].upper() if first == index else letters[name]
            parts.append((item["sram"], item["words"], letter))
    # What begins later is drawn over what it takes the place of.
    for start, count, letter in parts:
        for column in range(start * columns // size, -(-(start + count) * columns // size)):
            cells[column] = letter
    return "".join(cells)


def _described(memory: Mapping[str, Any], name: str, tensors, letters: Mapping[str, str]) -> str:
    """A line of the legend."""
    item = tensors[name]
    first, last = item["layers"]
    before = [letters[other] for other, it in tensors.items() if it["layers"][1] == first and _overlap(it, item)]
    notes = [f"layers {first}-{last}", *(f"over {letter}" for letter in before)]
    notes += [f"{item['region']}+{item['offset']}"] if item["region"] else []
    span = f"[{item['sram']:>6}, {item['sram'] + item['words']:>6})"
    size = _kib(memory, item["words"])
    return f"   {letters[name]}  {span} {size:>10}  {_short(name):<{LABEL}}  {', '.join(notes)}"


def _overlap(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    a, b = first["sram"], second["sram"]
    return first is not second and a < b + second["words"] and b < a + first["words"]


def _letters(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Letters in turn; one that a living tensor has is passed over while there are others."""
    letters: dict[str, str] = {}
    turn = 0
    for name, item in tensors.items():
        busy = {letters[other] for other in letters if tensors[other]["layers"][1] >= item["layers"][0]}
        while LETTERS[turn % 26] in busy and len(busy) < 26:
            turn += 1
        letters[name] = LETTERS[turn % 26]
        turn += 1
    return letters


def _ruler(memory: Mapping[str, Any], columns: int) -> str:
    """First words of the banks above the picture, as far as they have room."""
    banks = memory["banks"]
    width = columns // banks
    if width < 6:
        return " " * (columns + (banks + 1 if width > 1 else 2))
    return " " + "".join(f"{bank * memory['words'] // banks:<{width + 1}}" for bank in range(banks))


def _bars(strip: str, banks: int) -> str:
    """The strip with a bar after each bank, if banks are wider than a column."""
    width = len(strip) // banks
    if width < 2:
        return f"|{strip}|"
    return "|" + "".join(strip[bank * width : (bank + 1) * width] + "|" for bank in range(banks))


def _short(name: str) -> str:
    """The name with its middle left out, if it is long."""
    half = LABEL // 2
    return name if len(name) <= LABEL else f"{name[:half]}…{name[half + 1 - LABEL :]}"


def _kib(memory: Mapping[str, Any], words: int) -> str:
    return f"{words * memory['word_bytes'] / 1024:.1f} KiB"
