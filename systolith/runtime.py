"""ONNX Runtime in a process of its own, so that a model that makes it crash or hang ends that process alone.

`load` gives a `Session`, which runs as often as one likes. There is one process, started when it is first needed, and
again after it ended. A fork of ours (`multiprocessing`) gets its own.
"""

import atexit
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray
from onnx import TensorProto

from systolith.errors import SystolithError

__all__ = ["ELEMENTS", "INEXACT_PASSES", "Port", "RuntimeRefusal", "Session", "Value", "load", "optimized"]

ELEMENTS: dict[str, int] = {
    "float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE, "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64, "string": TensorProto.STRING,
}  # fmt: skip
"""Its names in "tensor(...)" and the types of ONNX, of those that NumPy has too."""
INEXACT_PASSES = ("DoubleQDQPairsRemover",)
"""Optimizations that change results: this one makes a scale of its own from two that follow each other."""
SHOWN = 300
"""Characters of a message of ONNX Runtime that are kept."""

Value = NDArray | list | None
"""What ONNX Runtime has: a tensor, a sequence, or an optional that is empty."""


class RuntimeRefusal(SystolithError):
    """ONNX Runtime refuses a model or its inputs, or ends or hangs with them. The message says no more than that."""


class Port(NamedTuple):
    """An input or output; `kind` as ONNX Runtime calls it, such as "tensor(int8)". Of `shape`, a dimension that is not
    known is a name or None; a tensor of unknown rank has () as a scalar has."""

    name: str
    kind: str
    shape: tuple[int | str | None, ...]


class _Process:
    """The process, and a lock: it answers one request at a time."""

    def __init__(self):
        self.lock = threading.RLock()
        self.process: subprocess.Popen[bytes] | None = None
        self.dropped: list[tuple[int, int]] = []

    def ask(self, name: str, *arguments: Any, seconds: float | None = None) -> tuple[int, Any]:
        """The process's number, and its answer to a request. Raises RuntimeRefusal."""
        with self.lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            all_dropped, self.dropped = self.dropped, []  # A session may be dropped at any time, here as well.
            dropped = [number for pid, number in all_dropped if pid == process.pid]
            try:
                pickle.dump((name, arguments, dropped), process.stdin, protocol=5)
                process.stdin.flush()
                if not select.select([process.stdout], [], [], seconds)[0]:
                    self.stop()
                    raise RuntimeRefusal(f"it takes more than {seconds:g} seconds")
                state, answer = pickle.load(process.stdout)
            except (EOFError, BrokenPipeError, pickle.UnpicklingError):
                raise RuntimeRefusal(f"its process ends with {_ending(process.wait())}") from None
            except BaseException:  # Also an interrupt: what is half said is not understood.
                self.stop()
                raise
        if state == "failed":
            raise RuntimeRefusal(answer[:SHOWN])
        return process.pid, answer

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    @property
    def pid(self) -> int | None:
        """The number of the process, if it runs."""
        return None if self.process is None or self.process.poll() is not None else self.process.pid

    def forget(self) -> None:
        """In a fork, which took place between requests: leave the process to the one that started it."""
        if self.process is not None:
            self.process.returncode = 0  # It is no child of the fork, to be waited for.
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()
        self.lock, self.process, self.dropped = threading.RLock(), None, []

    def _running(self) -> "subprocess.Popen[bytes]":
        if self.pid is None or self.process is None:
            self.stop()
            command = [sys.executable, "-P", "-m", "systolith.runtime_process", str(os.getpid())]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        return self.process


_PROCESS = _Process()
atexit.register(_PROCESS.stop)
os.register_at_fork(before=_PROCESS.lock.acquire, after_in_parent=_PROCESS.lock.release, after_in_child=_PROCESS.forget)


class Session:
    """A model, loaded. It is loaded again if the process has ended since."""

    def __init__(self, model: bytes, level: str, memory: int | None, seconds: float | None):
        self.arguments = (model, level, INEXACT_PASSES, memory)
        self.pid, (self.number, inputs, outputs) = _PROCESS.ask("load", *self.arguments, seconds=seconds)
        self.inputs = tuple(Port(name, kind, tuple(shape)) for name, kind, shape in inputs)
        self.outputs = tuple(Port(name, kind, tuple(shape)) for name, kind, shape in outputs)

    def run(self, inputs: Mapping[str, Any], names: Sequence[str] | None = None, memory: int | None = None,
            seconds: float | None = None) -> dict[str, Any]:  # fmt: skip
        """Outputs (those of `names`) by name. Raises RuntimeRefusal, also if it takes more than that memory, in bytes,
        or time."""
        wanted = [port.name for port in self.outputs] if names is None else list(names)
        with _PROCESS.lock:  # No other thread's model may end the process before it has this request.
            if _PROCESS.pid != self.pid:
                self.pid, (self.number, *_) = _PROCESS.ask("load", *self.arguments)
            _, results = _PROCESS.ask("run", self.number, wanted, dict(inputs), memory, seconds=seconds)
        return dict(zip(wanted, results, strict=True))

    def __del__(self):
        if hasattr(self, "number") and globals().get("_PROCESS"):  # When Python ends, it may be gone.
            _PROCESS.dropped.append((self.pid, self.number))  # Said with the next request.


def load(model: bytes, level: str = "all", memory: int | None = None, seconds: float | None = None) -> Session:
    """The model ready to run.

    `level` of optimization: "all"; "basic", which folds constants; "none", which computes each node as ONNX has it.
    Loading may take that much memory, in bytes, and time. Raises RuntimeRefusal.
    """
    return Session(model, level, memory, seconds)


def optimized(model: bytes, level: str = "all") -> bytes:
    """The model that ONNX Runtime makes of a model and runs. Raises RuntimeRefusal."""
    return _PROCESS.ask("optimized", model, level, INEXACT_PASSES)[1]


def _ending(code: int) -> str:
    """How a process ended."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
