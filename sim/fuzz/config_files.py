"""Configurations (.toml): lines and values changed; what is read is what the file says, or it is refused."""

import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from systolith.config import PRESETS, Config, load_config
from systolith.sim.fuzz.case import Case, Wrong
from systolith.sim.fuzz.damage import INTEGERS, REALS, TEXTS, damaged_bytes, few, pick

__all__ = ["judge", "make"]

KEYS = [field.name for field in fields(Config)]


def make(seed: int) -> Case:
    """A preset with changed lines, or changed bytes."""
    rng = np.random.default_rng(seed)
    text = pick(rng, list(PRESETS.values())).to_toml()
    if rng.random() < 0.4:
        data = text.encode()
        for _ in range(few(rng)):
            data = damaged_bytes(rng, data)
        return Case(data, ".toml", "bytes")
    lines = text.splitlines()
    for _ in range(few(rng)):
        place = int(rng.integers(len(lines)))
        match int(rng.integers(5)):
            case 0:
                del lines[place]
            case 1:
                lines.append(lines[place])
            case 2:
                lines.insert(place, pick(rng, ["[table]", "[[tables]]", "[array]", "# é", "=", "a.b.c = 1", '"" = 1']))
            case _:
                lines[place] = f"{lines[place].split(' =')[0]} = {_value(rng)}"
        lines = lines or [""]
    return Case("\n".join(lines).encode(errors="replace"), ".toml", "lines")


def judge(case: Case, folder: Path) -> str:
    """Load it; compare with what a TOML reader finds."""
    path = folder / "case.toml"
    path.write_bytes(case.data)
    config = load_config(str(path))
    values = asdict(config)
    said = tomllib.loads(case.data.decode())
    if any(values[key] != value or type(values[key]) is not type(value) for key, value in said.items()):
        raise Wrong(f"{said} was read as {values}")
    path.write_text(config.to_toml())
    if load_config(str(path)) != config:
        raise Wrong(f"{config} is another one after it is written and read")
    return "right"


def _value(rng: np.random.Generator) -> str:
    """A value of TOML."""
    depth = int(rng.choice([1, 3, 100, 5000]))
    match int(rng.integers(8)):
        case 0 | 1 | 2:
            return str(int(pick(rng, INTEGERS)))
        case 3:
            return repr(float(pick(rng, REALS)))
        case 4:
            return '"' + "".join(f"\\u{ord(c) & 0xFFFF:04x}" for c in pick(rng, TEXTS)) + '"'
        case 5:
            return "[" * depth + "]" * depth
        case 6:
            return "{a = " * depth + "1" + "}" * depth
        case _:
            return pick(rng, ["true", "1979-05-27", "07:32:00", "0x" + "f" * 5000, "9" * 4400, "''", "[1, 'a']", "1_6"])
