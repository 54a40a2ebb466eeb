"""Arrays on disk: .npy (one) or .npz (by name) read, outputs written to .npz, whole or not at all."""

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.errors import SystolithError
from systolith.file_io import write_whole
from systolith.network import Network
from systolith.program import Program
from systolith.sim.host.array_files import NUMBERS, STRINGS, ArrayFile
from systolith.sim.host.tensors import check_inputs, check_numbers

__all__ = ["load_arrays", "load_inputs", "save_outputs"]

LONGEST_NAME = 60_000
"""Bytes of a name; a .npz, which is a .zip, has 65,535 for it and what comes with it."""


def load_arrays(path: Path, names: Iterable[str], single: str | None = None) -> dict[str, NDArray]:
    """Arrays of a file by their names: those of `names`, as far as they are there; all others are stand-ins, which
    have their shape and type, and zeros. The one of a .npy is called `single`, or the only one of `names`.

    Raises SystolithError, naming the file, for anything that is not arrays of numbers.
    """
    expected, file = list(names), ArrayFile(path)
    if file.single is None:
        found = [name for name in expected if name in file.headers]
        others = {name: header.stand_in() for name, header in file.headers.items() if name not in found}
        return {**file.read(found), **others}
    if single is None and len(expected) != 1:
        raise _not_one(path, expected)
    return file.read([single or expected[0]])


def load_inputs(path: Path, network: Program | Network) -> dict[str, NDArray]:
    """The network's inputs by name. Raises SystolithError, naming the file, for anything that is not them; what has
    another shape or type is not even unpacked."""
    strings = any(tensor.dtype == "str" for tensor in network.inputs)
    names, file = [tensor.name for tensor in network.inputs], ArrayFile(path, NUMBERS + STRINGS * strings)
    headers = {names[0]: file.single} if file.single is not None and len(names) == 1 else file.headers
    if file.single is not None and len(names) != 1:
        raise _not_one(path, names)
    try:
        check_inputs(network.inputs, {name: header.stand_in() for name, header in headers.items()})
        inputs = file.read(names)
        check_inputs(network.inputs, inputs)
        for program in network.programs:
            for tensor in program.inputs:
                if tensor.name in inputs:
                    check_numbers(tensor.name, inputs[tensor.name])
    except SystolithError as error:
        raise SystolithError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    return inputs


def save_outputs(path: Path, outputs: Mapping[str, NDArray | list]) -> None:
    """Write outputs by name as .npz; the tensors of a sequence as `name[0]`, `name[1]` and so on. Raises
    SystolithError, and leaves an existing file as it was, if it can't."""
    if path.suffix != ".npz":
        raise SystolithError(f"Outputs must go to a .npz file, not {str(path)!r}")
    arrays = list(_arrays(outputs))
    for name, _ in arrays:
        if "\0" in name or len(name.encode()) > LONGEST_NAME:
            raise SystolithError(f"Output must have a name that a .npz file can have, not {name!r}")
    buffer = io.BytesIO()
    # Not np.savez, which can't write an array called "file".
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays:
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(values, order="C"), allow_pickle=False)
    write_whole(path, buffer.getvalue())


def _arrays(outputs: Mapping[str, NDArray | list]) -> Iterator[tuple[str, NDArray]]:
    """Names and arrays of a file: strings as NumPy has them, sequences piece by piece."""
    for name, values in outputs.items():
        if isinstance(values, list):
            yield from _arrays({f"{name}[{i}]": value for i, value in enumerate(values)})
        else:
            yield name, values.astype(str) if np.asarray(values).dtype == object else values


def _not_one(path: Path, names: list[str]) -> SystolithError:
    return SystolithError(f"{path}: must be a .npz file with arrays {', '.join(names)}, not one array")
