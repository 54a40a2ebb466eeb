"""Arrays on disk: inputs from .npy (one input) or .npz (by ONNX names), outputs to .npz, whole or not at all."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.errors import SystolithError
from systolith.program import Program, write_whole
from systolith.sim.host import check_inputs

__all__ = ["load_inputs", "save_outputs"]


def load_inputs(path: Path, program: Program) -> dict[str, NDArray]:
    """The program's inputs by name. Raises SystolithError, naming the file, for anything that is not them."""
    names = [tensor.name for tensor in program.inputs]
    try:
        data = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        inputs = dict(data) if isinstance(data, np.lib.npyio.NpzFile) else data
    except OSError as error:
        raise SystolithError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise SystolithError(f"{path}: must be a .npy or .npz file of numbers; it is none, or damaged") from None
    if not isinstance(inputs, dict):
        if len(names) != 1:
            raise SystolithError(f"{path}: must be a .npz file with arrays {', '.join(names)}, not one array")
        inputs = {names[0]: inputs}
    try:
        check_inputs(program.inputs, inputs)
    except SystolithError as error:
        raise SystolithError(f"{path}: {error}") from None
    return inputs


def save_outputs(path: Path, outputs: Mapping[str, NDArray]) -> None:
    """Write outputs by name as .npz. Raises SystolithError, and leaves an existing file as it was, if it can't."""
    if path.suffix != ".npz":
        raise SystolithError(f"Outputs must go to a .npz file, not {str(path)!r}")
    buffer = io.BytesIO()
    # Not np.savez, which can't write an array called "file".
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in outputs.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)
    write_whole(path, buffer.getvalue())
