"""ONNX Runtime in a process of its own: what ends or stops there is a refusal here, and the next model runs."""

import gc
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from systolith import runtime
from systolith.errors import SystolithError
from systolith.runtime import RuntimeRefusal
from systolith.sim.reference import reference

X = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


def model(*nodes, constants=(), kind: int = TensorProto.FLOAT) -> bytes:
    """Of input x float32 [2, 3] and output y."""
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])]
    graph = helper.make_graph(list(nodes), "g", ports, [helper.make_tensor_value_info("y", kind, None)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def relu() -> bytes:
    return model(helper.make_node("Relu", ["x"], ["y"]))


def crashing() -> bytes:
    """Max with an input that is left out: ONNX Runtime reads a null pointer."""
    return model(helper.make_node("Max", ["x", ""], ["y"]))


def endless() -> bytes:
    """A Loop of 2^40 rounds."""
    ports = [helper.make_tensor_value_info(n, k, []) for n, k in (("i", TensorProto.INT64), ("go", TensorProto.BOOL))]
    more = [helper.make_tensor_value_info("v", TensorProto.FLOAT, [2, 3])]
    ends = [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3])]  # fmt: skip
    body = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["w"])]
    constants = [helper.make_tensor("n", TensorProto.INT64, [], [1 << 40]),
                 helper.make_tensor("c", TensorProto.BOOL, [], [True])]  # fmt: skip
    graph = helper.make_graph(body, "body", [*ports, *more], ends)
    return model(helper.make_node("Loop", ["n", "c", "x"], ["y"], body=graph), constants=constants)


def test_a_session_runs():
    session = runtime.load(relu())
    assert [(port.name, port.kind, port.shape) for port in session.inputs] == [("x", "tensor(float)", (2, 3))]
    assert [port.name for port in session.outputs] == ["y"]
    assert np.array_equal(session.run({"x": -X["x"]})["y"], np.zeros((2, 3), np.float32))
    assert session.run(X, names=["y"])["y"].dtype == np.float32


def test_a_crash_is_a_refusal_and_sessions_live_on():
    session = runtime.load(relu())
    bad = runtime.load(crashing(), "none")
    for _ in range(2):
        with pytest.raises(RuntimeRefusal, match=r"^its process ends with SIGSEGV$"):
            bad.run(X)
        assert np.array_equal(session.run(X)["y"], X["x"])


def test_a_hang_is_a_refusal():
    session = runtime.load(endless(), "none")
    begin = time.monotonic()
    with pytest.raises(RuntimeRefusal, match=r"^it takes more than 0.2 seconds$"):
        session.run(X, seconds=0.2)
    assert time.monotonic() - begin < 20
    assert np.array_equal(runtime.load(relu()).run(X)["y"], X["x"])


def test_sessions_may_outlive_their_module(monkeypatch):
    """When Python ends, it sets what modules have to None, in any order."""
    session = runtime.load(relu())
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "_PROCESS", None)
        session.__del__()


def test_nothing_runs_on_behind_a_process_that_is_killed(tmp_path):
    """A Loop of 2^40 rounds ends soon after the process that asked for it."""
    (tmp_path / "endless.onnx").write_bytes(endless())
    code = ("import numpy, pathlib, sys\nfrom systolith import runtime\n"
            "session = runtime.load(pathlib.Path(sys.argv[1]).read_bytes(), 'none')\nprint(session.pid, flush=True)\n"
            "session.run({'x': numpy.zeros((2, 3), numpy.float32)})")  # fmt: skip
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "endless.onnx")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        time.sleep(0.5)
        assert Path(f"/proc/{pid}").exists()
        process.kill()
    end = time.monotonic() + 20
    while _runs(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Not if it is gone, or has ended and nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_memory_is_limited_while_loading():
    """Folding the constant would take 64 GB."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [1 << 17, 1 << 17])
    nodes = [helper.make_node("ConstantOfShape", ["sizes"], ["c"]), helper.make_node("ReduceMax", ["c"], ["m"]),
             helper.make_node("Add", ["x", "m"], ["y"])]  # fmt: skip
    source = model(*nodes, constants=[sizes])
    assert runtime.load(source, "none", memory=1 << 30)
    try:
        runtime.load(source, "basic", memory=1 << 30)
    except RuntimeRefusal as error:
        assert "\n" not in str(error)
    assert np.array_equal(runtime.load(relu()).run(X)["y"], X["x"])


def test_refusals_are_one_line():
    for bad in (b"nonsense", model(helper.make_node("Frobnicate", ["x"], ["y"]))):
        with pytest.raises(RuntimeRefusal) as error:
            runtime.load(bad)
        assert "\n" not in str(error.value)
        with pytest.raises(SystolithError, match=r"^ONNX Runtime refuses the model: "):
            reference.run(bad, X)


def test_sequences_and_optionals_pass():
    nodes = [helper.make_node("SequenceConstruct", ["x", "x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
                              [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)])  # fmt: skip
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    found = runtime.load(source).run(X)["y"]
    assert isinstance(found, list)
    assert [np.array_equal(y, X["x"]) for y in found] == [True, True]


def test_sessions_that_nobody_has_are_forgotten():
    process = runtime._PROCESS
    session = runtime.load(relu())
    place = (session.pid, session.number)
    del session
    gc.collect()
    assert place in process.dropped
    runtime.load(relu())
    assert place not in process.dropped


def _doubled(start: int) -> bool:
    """Whether runs give what they should. Also in a fork, on a session from before it."""
    found = [SESSIONS[0].run({"x": X["x"] + start + i})["y"] for i in range(10)]
    return all(np.array_equal(y, X["x"] + start + i) for i, y in enumerate(found))


SESSIONS: list[runtime.Session] = []


def test_forks_have_processes_of_their_own():
    SESSIONS[:] = [runtime.load(relu())]
    ours = SESSIONS[0].pid
    with multiprocessing.get_context("fork").Pool(3) as pool:
        waiting = pool.map_async(_doubled, range(0, 600, 100))
        assert _doubled(1000)
        assert all(waiting.get(60))
    assert _doubled(2000)
    assert runtime._PROCESS.pid == ours


def test_a_thread_that_ends_the_process_harms_no_other():
    """Sessions have the same numbers in each process: none may run another's model."""

    def crash() -> None:
        for _ in range(4):
            with pytest.raises(RuntimeRefusal):
                runtime.load(crashing(), "none").run(X)

    def work(op: str, expected: np.ndarray) -> bool:
        session = runtime.load(model(helper.make_node(op, ["x"], ["y"])))
        return all(np.array_equal(session.run(X)["y"], expected) for _ in range(30))

    with ThreadPoolExecutor(4) as pool:
        ended = pool.submit(crash)
        found = [pool.submit(work, *of) for of in (("Neg", -X["x"]), ("Relu", X["x"]), ("Abs", X["x"]))]
        assert [one.result(60) for one in found] == [True] * 3
        ended.result(60)
