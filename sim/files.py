"""Arrays on disk: .npy (one) or .npz (by name) read, outputs written to .npz, whole or not at all."""

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.errors import SystolithError
from systolith.network import Network
from systolith.program import Program
from systolith.sim.host import check_inputs
from systolith.whole_files import read_whole, write_whole

__all__ = ["load_arrays", "load_inputs", "save_outputs"]

LONGEST_NAME = 60_000
"""Bytes of a name; a .npz, which is a .zip, has 65,535 for it and what comes with it."""


def load_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray]:
    """Arrays of a .npz by their names; that of a .npy has the only one of `names`. Raises SystolithError, naming the
    file, for anything that is not arrays of numbers."""
    content = io.BytesIO(read_whole(path))
    try:
        data = np.load(content, allow_pickle=False)
        arrays = dict(data) if isinstance(data, np.lib.npyio.NpzFile) else data
    except Exception:  # What NumPy and zipfile raise for damaged files has no common base class.
        raise SystolithError(f"{path}: must be a .npy or .npz file of numbers; it is none, or damaged") from None
    if isinstance(arrays, dict):
        return arrays
    expected = list(names)
    if len(expected) != 1:
        raise SystolithError(f"{path}: must be a .npz file with arrays {', '.join(expected)}, not one array")
    return {expected[0]: arrays}


def load_inputs(path: Path, network: Program | Network) -> dict[str, NDArray]:
    """The network's inputs by name. Raises SystolithError, naming the file, for anything that is not them."""
    inputs = load_arrays(path, [tensor.name for tensor in network.inputs])
    try:
        check_inputs(network.inputs, inputs)
    except SystolithError as error:
        raise SystolithError(f"{path}: {error}") from None
    return inputs


def save_outputs(path: Path, outputs: Mapping[str, NDArray]) -> None:
    """Write outputs by name as .npz. Raises SystolithError, and leaves an existing file as it was, if it can't."""
    if path.suffix != ".npz":
        raise SystolithError(f"Outputs must go to a .npz file, not {str(path)!r}")
    for name in outputs:
        if "\0" in name or len(name.encode()) > LONGEST_NAME:
            raise SystolithError(f"Output must have a name that a .npz file can have, not {name!r}")
    buffer = io.BytesIO()
    # Not np.savez, which can't write an array called "file".
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in outputs.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(values, order="C"), allow_pickle=False)
    write_whole(path, buffer.getvalue())
