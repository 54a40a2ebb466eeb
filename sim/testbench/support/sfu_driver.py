"""What surrounds the SFU in its testbench, and what checks it: every access, token and retirement, in order."""

from collections import Counter, deque

import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from systolith.isa import Error, disassemble
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.sfu_model import Job, Memories, word_of

__all__ = ["Driver", "Scoreboard", "run"]

UNIT_BITS = 6
PORTS = {"accumulators": 32, "depthwise": 32, "activations": 8, "parameters": 64}
"""Read ports, and bits a channel."""


class Driver:
    """Everything around the SFU: its queue, the token counters, and memories that answer after two cycles."""

    def __init__(self, bench: Environment, memories: Memories):
        self.bench, self.dut, self.memories = bench, bench.dut, memories
        self.instruction_rate = self.token_rate = self.activation_rate = 1.0
        self.tokens: Counter[int] = Counter()
        self.ports = [name for name in PORTS if hasattr(self.dut, f"{name}__valid")]
        self.answers = {name: deque([None] * 2) for name in self.ports}

    async def reset(self) -> None:
        self.dut.unit__halt.value = 0
        self.dut.unit__instruction__valid.value = 0
        for port in (*self.ports, "write"):
            getattr(self.dut, f"{port}__ready").value = 1
        await self.bench.reset()

    def offer(self, job: Job | None, index: int) -> bool:
        """Put the next instruction at the queue's output, or leave it empty for a cycle."""
        offered = job is not None and self.bench.rng.random() < self.instruction_rate
        self.dut.unit__instruction__valid.value = offered
        if offered:
            self.dut.unit__instruction__payload.value = job.word | index << 128
        return offered

    def answer(self) -> None:
        """Data of the requests of two cycles ago; noise where there was none. And whether activations can be read."""
        for name, answers in self.answers.items():
            value = answers.popleft()
            noise = self.bench.rng.getrandbits(PORTS[name] * self.bench.config.array)
            getattr(self.dut, f"{name}__data").value = noise if value is None else value
        self.dut.activations__ready.value = self.bench.rng.random() < self.activation_rate

    def take_requests(self) -> dict[str, int]:
        """The requests of this cycle that are taken, by port; their words are read now."""
        requests = {}
        for name, answers in self.answers.items():
            taken = int(getattr(self.dut, f"{name}__valid").value) and int(getattr(self.dut, f"{name}__ready").value)
            if taken:
                requests[name] = int(getattr(self.dut, f"{name}__address").value)
            answers.append(self._read(name, requests[name]) if taken else None)
        return requests

    def _read(self, name: str, address: int) -> int | None:
        memories = self.memories
        if name == "parameters":
            return memories.parameter_word(address)
        memory = {"accumulators": memories.acc, "depthwise": memories.dw_acc, "activations": memories.act}[name]
        return word_of(memory[address])

    def store(self) -> None:
        """Write what is written in this cycle, behind its reads."""
        if int(self.dut.write__valid.value):
            word = int(self.dut.write__data.value).to_bytes(self.bench.config.array, "little")
            self.memories.act[int(self.dut.write__address.value)] = np.frombuffer(word, np.int8)

    def grant(self) -> tuple[int, bool]:
        """In the middle of a cycle: new tokens come, and `ready` answers `need`."""
        need = int(self.dut.unit__tokens__need.value)
        for unit in range(UNIT_BITS):
            if not self.tokens[unit] and self.bench.rng.random() < self.token_rate:
                self.tokens[unit] = 1
        ready = all(self.tokens[unit] for unit in range(UNIT_BITS) if need >> unit & 1)
        self.dut.unit__tokens__ready.value = ready
        return need, ready


class Scoreboard:
    """What must still happen, in order."""

    def __init__(self, bench: Environment, jobs: list[Job]):
        self.bench, self.dut, self.jobs = bench, bench.dut, jobs
        self.starts = deque(n for n, job in enumerate(jobs) if job.starts)
        self.steps = deque((n, step) for n, job in enumerate(jobs) for step in job.steps)
        self.params = deque(param for job in jobs for param in job.params)
        self.writes = deque((n, *write) for n, job in enumerate(jobs) for write in job.writes)
        self.retires = deque(n for n, job in enumerate(jobs) if job.fault is None)
        self.cycle = self.first_step = self.last_step = self.last_write = self.refused = 0
        self.started = -1
        self.faulted = False

    def check(self, need: int, ready: bool, requests: dict[str, int]) -> None:
        """At the end of a cycle."""
        self.cycle += 1
        self._check_step(requests)
        self._check_start(need, ready)
        self._check_retire()
        self._check_write()
        self._check_fault()
        if not self.faulted and (self.retires and self.started >= self.retires[0]):
            assert int(self.dut.unit__busy.value)

    def _check_start(self, need: int, ready: bool) -> None:
        waits = int(self.dut.counts.value) >> 1
        assert not waits or (need and not ready)
        self.bench.cover("waited for a token", waits)
        if int(self.dut.unit__tokens__take.value):
            assert ready
            self.started = self.starts.popleft()
            job = self.jobs[self.started]
            assert need == job.instruction.wait, f"instruction {self.started} waited for {need:06b}"
            assert int(self.dut.unit__tokens__index.value) == self.started
            in_flight = bool(self.writes) and self.writes[0][0] < self.started
            name = job.instruction.form.name
            self.bench.cover(f"{name} while values are in flight", in_flight)
            if name == "CONFIG.SFU.table" or job.instruction.values.get("drain"):
                assert not in_flight, f"instruction {self.started} did not wait for earlier results"

    def _check_step(self, requests: dict[str, int]) -> None:
        """All accesses of a step come in one cycle, and `busy` with them; or the one to activations is refused."""
        param = requests.pop("parameters", None)
        if param is not None:
            expected = self.params.popleft()
            assert param == expected, f"read parameter {param}, not {expected}"
        refused = int(self.dut.activations__valid.value) and not int(self.dut.activations__ready.value)
        busy = int(self.dut.counts.value) & 1
        assert not (busy and refused)
        if not busy and not refused:
            assert not requests, f"read {requests} without a step"
            return
        n, expected = self.steps[0]
        wanted = {name: address for name, address in vars(expected).items() if address is not None}
        if refused:
            assert "activations" in wanted
            del wanted["activations"]
            self.refused += 1
            self.bench.cover("refused", 1)
        assert requests == wanted, f"instruction {n}: read {requests}, not {wanted}"
        assert n <= self.started, f"instruction {n} read before it took its tokens"
        self.first_step = self.first_step or self.cycle
        if busy:
            self.steps.popleft()
            self.last_step = self.cycle

    def _check_write(self) -> None:
        if not int(self.dut.write__valid.value):
            return
        n, address, value = self.writes.popleft()
        found = int(self.dut.write__address.value)
        assert found == address, f"instruction {n}: wrote word {found}, not {address}"
        found = int(self.dut.write__data.value)
        assert found == value, (
            f"instruction {n} ({disassemble(self.jobs[n].instruction)}): wrote {found:x} to {address}, not {value:x}"
        )
        assert int(self.dut.write__mask.value) == (1 << self.bench.config.array) - 1
        self.last_write = self.cycle

    def _check_retire(self) -> None:
        give = int(self.dut.unit__give.value)
        if not int(self.dut.unit__retired.value):
            assert give == 0
            return
        n = self.retires.popleft()
        assert int(self.dut.unit__retired_index.value) == n
        assert give == self.jobs[n].instruction.signal, f"instruction {n} gave {give:06b}"
        assert not self.writes or self.writes[0][0] > n, f"instruction {n} retired before its last write"
        assert not self.jobs[n].writes or self.cycle == self.last_write + 1
        assert int(self.dut.unit__busy.value)

    def _check_fault(self) -> None:
        fault = int(self.dut.unit__fault.value)
        code, index = fault & 0xFF, fault >> 8
        if code:
            last = self.jobs[-1]
            assert last.fault, f"fault {code} of instruction {index}"
            assert (code, index) == (Error[last.fault], len(self.jobs) - 1)
            self.faulted = True

    def emitted(self, jobs: list[Job]) -> int:
        """Windows completed so far, one for each group of channels of an output."""
        left = len(self.steps)
        for job in reversed(jobs):
            if left < len(job.steps):
                each = len(job.steps) // len(job.params) if job.params else 1
                return (len(job.steps) - left) // each + sum(len(other.params) for other in jobs[: jobs.index(job)])
            left -= len(job.steps)
        return 0

    @property
    def finished(self) -> bool:
        return not self.retires and not self.writes and (self.faulted or not self.jobs[-1].fault)


async def run(driver: Driver, jobs: list[Job], halt_at: int | None = None, after: int = 0) -> Scoreboard:
    """The jobs, until all has happened and `after` more cycles; or until well after a halt."""
    dut, board = driver.dut, Scoreboard(driver.bench, jobs)
    limit = 200 + 700 * len(jobs) + 100 * sum(len(job.steps) for job in jobs)
    position, rest = 0, after
    while rest:
        offered = driver.offer(jobs[position] if position < len(jobs) else None, position)
        driver.answer()
        halted = halt_at is not None and board.cycle >= halt_at
        dut.unit__halt.value = halted
        await FallingEdge(dut.clk)
        need, ready = driver.grant()
        await RisingEdge(dut.clk)
        position += offered and int(dut.unit__instruction__ready.value)
        if int(dut.unit__tokens__take.value):
            driver.tokens.subtract({unit: need >> unit & 1 for unit in range(UNIT_BITS)})
        requests = driver.take_requests()
        driver.store()
        if halted:
            assert requests.keys() <= {"parameters"}, "read something after halt"
            assert not int(dut.unit__tokens__take.value), "started something after halt"
        board.check(need, ready, requests)
        if board.finished or halted:
            rest -= 1
        assert board.cycle < limit, f"stuck: next to retire is {board.retires[0] if board.retires else None}"
    return board
