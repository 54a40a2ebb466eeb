"""What surrounds Control in its testbench: a stalling memory of instructions, units that only take time, the host."""

from collections import deque

from cocotb.triggers import RisingEdge

from systolith import isa
from systolith.isa import Region, Unit
from systolith.registers import STATUS_BUSY, STATUS_DONE, STATUS_ERROR
from systolith.sim.testbench.support.control_programs import PORTS, is_fence, part, random_program, units
from systolith.sim.testbench.support.environment import Environment

__all__ = ["BASE", "LOAD_W", "ControlHost"]

LOAD_W = 1 << Unit.LOAD_W
BASE = 0x1_0000


class Memory:
    """Answers the read bus: requests with random pauses, beats in order after a random time."""

    def __init__(self, bench: Environment):
        self.bench, self.rng = bench, bench.rng
        self.bytes, self.base, self.limit, self.bad = b"", BASE, 0, -1
        self.beats: deque = deque()
        self.pause = 0.3

    @property
    def in_flight(self) -> bool:
        return bool(self.beats)

    def step(self) -> None:
        dut, config = self.bench.dut, self.bench.config
        if int(dut.bus__request__valid.value) and int(dut.bus__request__ready.value):
            payload = int(dut.bus__request__payload.value)
            address, beats = payload & (1 << config.axi_addr_bits) - 1, (payload >> config.axi_addr_bits) + 1
            size = beats * config.axi_bytes
            assert address % config.axi_bytes == 0 and address // 4096 == (address + size - 1) // 4096
            assert beats <= config.axi_burst
            offset = address - self.base
            assert offset >= 0 and offset + size < self.limit + config.axi_bytes, "outside of the region"
            self.beats.extend(range(offset, offset + size, config.axi_bytes))
        dut.bus__request__ready.value = not self.halted and self.rng.random() >= self.pause
        valid = bool(self.beats) and self.rng.random() >= self.pause
        dut.bus__beat_valid.value = valid
        if valid:
            offset = self.beats.popleft()
            data = self.bytes[offset : offset + config.axi_bytes].ljust(config.axi_bytes, b"\xa5")
            dut.bus__beat_data.value = int.from_bytes(data, "little")
            dut.bus__beat_error.value = offset <= self.bad < offset + config.axi_bytes
        else:
            dut.bus__beat_data.value = self.rng.getrandbits(config.axi_data_bits)
        dut.quiet.value = self.halted and not self.beats and self.rng.random() < 0.5

    @property
    def halted(self) -> bool:
        return bool(int(self.bench.dut.halt.value))


class MockUnit:
    """Takes an instruction, its tokens, some time; then retires it. EXECUTE takes the token of LOAD_W first."""

    def __init__(self, bench: Environment, number: int, log: "Log"):
        self.bench, self.number, self.log = bench, number, log
        self.port, self.slow, self.fault_at = PORTS[Unit(number)], 0.0, None
        self.clear()

    def clear(self) -> None:
        self.state, self.needs, self.current = "idle", [], None
        for member in ("instruction__ready", "tokens__need", "tokens__take", "give", "retired", "busy", "fault"):
            self.signal(member).value = 0
        if self.number == Unit.EXECUTE:
            self.bench.dut.execute_weights__need.value = 0
            self.bench.dut.execute_weights__take.value = 0

    def signal(self, member: str):
        return getattr(self.bench.dut, f"{self.port}__{member}")

    def token_signal(self, member: str):
        early = self.number == Unit.EXECUTE and len(self.needs) == 2
        return getattr(self.bench.dut, f"execute_weights__{member}") if early else self.signal(f"tokens__{member}")

    def step(self) -> None:
        getattr(self, f"_{self.state}")()

    def _idle(self) -> None:
        self.signal("retired").value = 0
        self.signal("give").value = 0
        if int(self.signal("instruction__valid").value) and int(self.signal("instruction__ready").value):
            payload = int(self.signal("instruction__payload").value)
            instruction, self.index = payload & (1 << 128) - 1, payload >> 128
            self.log.taken(self.number, self.index, instruction)
            wait = part(instruction, "wait")
            self.give = part(instruction, "signal")
            self.needs = [wait & LOAD_W, wait & ~LOAD_W] if self.number == Unit.EXECUTE else [wait]
            self.state = "need"
            self.signal("instruction__ready").value = 0
            self.signal("busy").value = 1
        else:
            self.signal("instruction__ready").value = self.bench.rng.random() >= self.slow

    def _need(self) -> None:
        self.token_signal("need").value = self.needs[0]
        self.token_signal("index").value = self.index
        self.state = "wait"

    def _wait(self) -> None:
        if int(self.token_signal("ready").value):
            self.token_signal("take").value = 1
            self.state = "took"

    def _took(self) -> None:
        self.token_signal("take").value = 0
        self.token_signal("need").value = 0
        self.needs.pop(0)
        self.state = "need" if self.needs else "work"

    def _work(self) -> None:
        if self.fault_at == self.index:
            self.signal("fault").value = isa.Error.SRAM_RANGE | self.index << 8
            self.state = "dead"
        elif self.bench.rng.random() >= self.slow:
            self.signal("retired").value = 1
            self.signal("retired_index").value = self.index
            self.signal("give").value = self.give
            self.signal("busy").value = 0
            self.log.retired.append(self.index)
            self.state = "idle"

    def _dead(self) -> None:
        self.signal("fault").value = 0


class Log:
    """What the units took and retired, checked against the program as it comes."""

    def __init__(self):
        self.begin([])

    def begin(self, program: list[int]) -> None:
        self.program, self.retired = program, []
        self.left = [[i for i, w in enumerate(program) if part(w, "unit") == unit] for unit in range(len(PORTS))]
        fences = [i for i, w in enumerate(program) if is_fence(w)]
        self.fence_before = {i: max((f for f in fences if f < i), default=-1) for i in range(len(program))}

    def taken(self, unit: int, index: int, instruction: int) -> None:
        assert index == self.left[unit].pop(0) and instruction == self.program[index]
        done = set(self.retired)
        fence = self.fence_before[index]
        assert all(i in done or is_fence(self.program[i]) for i in range(fence)), f"{index} passed {fence}"


class ControlHost:
    """Control with memory and units around it."""

    def __init__(self, dut):
        self.env, self.dut, self.log = Environment(dut), dut, Log()
        self.rng, self.config = self.env.rng, self.env.config
        self.memory = Memory(self.env)
        self.units = [MockUnit(self.env, number, self.log) for number in range(units(self.config))]
        for name in ("start", "reset", "watchdog", "quiet", "progress", "bus__request__ready", "bus__beat_valid"):
            getattr(dut, name).value = 0

    async def cycle(self) -> None:
        await RisingEdge(self.dut.clk)
        self.memory.step()
        for unit in self.units:
            if int(self.dut.core_reset.value):
                unit.clear()
            elif not int(self.dut.halt.value):
                unit.step()

    async def pulse(self, name: str) -> None:
        getattr(self.dut, name).value = 1
        await self.cycle()
        getattr(self.dut, name).value = 0

    async def load(self, program: list[int], base: int = BASE, size: int | None = None) -> None:
        memory, config = self.memory, self.config
        memory.base, memory.limit = base, 16 * len(program) if size is None else size
        memory.bytes, memory.bad = b"".join(w.to_bytes(16, "little") for w in program), -1
        entry = base | memory.limit << config.axi_addr_bits
        table = self.rng.getrandbits(8 * (config.axi_addr_bits + 33))
        shift = Region.CODE * (config.axi_addr_bits + 33)
        mask = (1 << config.axi_addr_bits + 33) - 1 << shift
        self.dut.regions__table.value = table & ~mask | entry << shift
        self.log.begin(program)
        memory.pause = self.rng.choice((0, 0.3, 0.8))
        for unit in self.units:
            unit.slow, unit.fault_at = self.rng.choice((0, 0.3, 0.9)), None

    async def run(self, most: int = 100_000) -> None:
        """Start, and wait until it ends."""
        notified = 0
        await self.pulse("start")
        await self.cycle()
        for _ in range(most):
            notified += int(self.dut.notify.value)
            status = int(self.dut.status.value)
            if status & (STATUS_DONE | STATUS_ERROR):
                assert notified == 1
                return
            await self.cycle()
        raise AssertionError(f"not finished after {most} cycles")

    def check_done(self) -> None:
        assert int(self.dut.status.value) == STATUS_DONE, f"{int(self.dut.report.value):#x}"
        done = [i for i, w in enumerate(self.log.program) if part(w, "unit") != Unit.CONTROL]
        assert sorted(self.log.retired) == done and not self.memory.in_flight

    def check_error(self, code: str, unit: int, index: int, detail: int = 0) -> None:
        assert int(self.dut.status.value) & (STATUS_DONE | STATUS_ERROR) == STATUS_ERROR
        value = int(self.dut.report.value)
        found = (value & 255, value >> 8 & 255, value >> 32, value >> 16 & 0xFFFF)
        assert found == (isa.Error[code], unit, index, detail), f"{found}, not {(code, unit, index, detail)}"
        assert all(i < index or unit != Unit.CONTROL for i in self.log.retired)
        self.env.cover(code)

    async def reset(self) -> None:
        """Soft reset, while which status is busy; then a good program runs."""
        await self.pulse("reset")
        await self.cycle()
        assert int(self.dut.status.value) == STATUS_BUSY
        while int(self.dut.status.value):
            await self.cycle()
        assert not int(self.dut.halt.value) and not int(self.dut.report.value)
        await self.load(random_program(self.rng, self.config, 20))
        await self.run()
        self.check_done()
        self.env.cover("run after reset")
