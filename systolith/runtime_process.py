"""The process in which ONNX Runtime runs: `python -m systolith.runtime_process PARENT`, started by
systolith/runtime.py, whose process has that number.

Requests come on standard input and answers go to standard output, as pickles; both ends are ours. A request is the
name of a method of `_Server`, its arguments, and numbers of sessions that are needed no more; an answer is "done" with
a result, or "failed" with ONNX Runtime's message.
"""

import os
import pickle
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime

__all__ = ["main"]

LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class _Server:
    """Sessions by number."""

    def __init__(self):
        self.sessions: dict[int, onnxruntime.InferenceSession] = {}
        self.count = 0

    def load(self, model: bytes, level: str, disabled: Sequence[str], memory: int | None) -> tuple[int, list, list]:
        """Number of a new session; its inputs and outputs as (name, type, shape). Loading may take that `memory`."""
        with _memory(memory):
            session = _session(model, _options(level), disabled)
        self.count += 1
        self.sessions[self.count] = session
        return self.count, _ports(session.get_inputs()), _ports(session.get_outputs())

    def run(self, number: int, names: Sequence[str], inputs: dict[str, Any], memory: int | None) -> list[Any]:
        """Outputs of a session. Computing them may take that `memory`."""
        with _memory(memory):
            return list(self.sessions[number].run(names, inputs))

    def optimized(self, model: bytes, level: str, disabled: Sequence[str]) -> bytes:
        """The model that ONNX Runtime makes of a model and runs."""
        with tempfile.TemporaryDirectory() as folder:
            options = _options(level)
            options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
            _session(model, options, disabled)
            return Path(options.optimized_model_filepath).read_bytes()


def _ports(ports: Sequence[Any]) -> list[tuple[str, str, list]]:
    return [(port.name, port.type, port.shape) for port in ports]


def _session(
    model: bytes, options: onnxruntime.SessionOptions, disabled: Sequence[str]
) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model, options, ["CPUExecutionProvider"], disabled_optimizers=list(disabled),
        enable_fallback=0,  # A second try prints that it is one.
    )  # fmt: skip


def _options(level: str) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # Errors come as exceptions.
    # Without it, QDQ models with int8 activations run in float32 on x86.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return options


@contextmanager
def _memory(limit: int | None) -> Iterator[None]:
    """At most `limit` bytes of address space more than now."""
    if limit is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    allowed = used + limit if hard == resource.RLIM_INFINITY else min(used + limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _end_with(parent: int) -> None:
    """End when the process that started this one has: nobody waits for a model that still runs."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Answer requests until there are no more."""
    threading.Thread(target=_end_with, args=[int(sys.argv[1])], daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Whoever started it decides.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What ONNX Runtime prints is no answer.
    server = _Server()
    while True:
        try:
            name, arguments, dropped = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        for number in dropped:
            server.sessions.pop(number, None)
        method: Callable[..., Any] = getattr(server, name)
        try:
            answer: tuple[str, Any] = ("done", method(*arguments))
        except Exception as error:  # ONNX Runtime's exceptions have no common base class.
            answer = ("failed", " ".join(str(error).split()) or type(error).__name__)
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    main()
