"""Activation SRAM against a dictionary: all ports at random rates in few words, ready and data checked each cycle."""

import cocotb

from systolith.config import Config
from systolith.sim.testbench.support.environment import Environment
from systolith.sim.testbench.support.sram_model import Port, ReadPort, SramModel, WritePort

NAME = "act_sram"
CYCLES = 6000


def component(config: Config):
    from systolith.hw.memory.activations import ActivationSram

    return ActivationSram(config)


def addresses(bench: Environment, past_the_end: bool) -> list[int]:
    """The ends of every bank, and some words between; for some ports also what an address can name beyond the banks."""
    depth, bank = bench.config.act_depth, bench.config.act_depth // bench.config.act_banks
    chosen = {bench.rng.randrange(depth) for _ in range(6)}
    chosen |= {i * bank + j for i in range(bench.config.act_banks) for j in (0, bank - 1)}
    if past_the_end and depth & depth - 1:
        chosen |= {depth, (1 << depth.bit_length()) - 1}
    return sorted(chosen)


def grants(bench: Environment, ports: tuple[Port, ...]) -> list[bool]:
    """Whether each of the ports, in order of priority, is ready."""
    bank = bench.config.act_depth // bench.config.act_banks
    return [
        not any(other.request and other.address // bank == port.address // bank for other in ports[:i])
        for i, port in enumerate(ports)
    ]


@cocotb.test()
async def random_traffic(dut):
    bench = Environment(dut)
    await bench.reset()
    depth, model = bench.config.act_depth, SramModel()
    inside = addresses(bench, past_the_end=False)
    readers = tuple(ReadPort(bench, name, inside) for name in reader_names(bench.config))
    writers = tuple(
        WritePort(bench, name, addresses(bench, past_the_end=True) + inside, bench.config.array)
        for name in ("sfu_write", "load_write")
    )
    ports = (*readers, *writers)
    taken = [True] * len(ports)
    for cycle in range(CYCLES):
        if cycle % 200 == 0:
            for port in ports:
                port.rate = bench.rng.choice((0.05, 0.3, 0.7, 1))
        for port, was_taken in zip(ports, taken, strict=True):
            port.drive(was_taken)
        await bench.cycles(1)

        ready = grants(bench, readers) + grants(bench, writers)
        for port, expected in zip(ports, ready, strict=True):
            assert not port.request or port.get("ready") == expected, f"cycle {cycle}: {port.handles['ready']._name}"
        refused = sum(port.request and not granted for port, granted in zip(ports, ready, strict=True))
        assert int(dut.conflicts.value) == refused
        for port, granted in zip(ports, ready, strict=True):
            bench.cover(f"{port.name} refused", port.request and not granted)
        bench.cover("all at once", all(port.request for port in ports) and not refused)
        bench.cover("all refused but two", refused == len(ports) - 2)

        taken = [port.request and granted for port, granted in zip(ports, ready, strict=True)]
        writing = [port for port, was_taken in zip(writers, taken[len(readers) :], strict=True) if was_taken]
        for port, was_taken in zip(readers, taken[: len(readers)], strict=True):
            collides = any(port.address == writer.address for writer in writing)
            port.check(was_taken, (0, 0) if collides else model.read(port.address))
        for port in writing:
            bench.cover("write past the end", port.address >= depth)
            if port.address < depth:
                model.write(port.address, port.value, port.bits)
    finish(bench)


def reader_names(config: Config) -> list[str]:
    """In order of priority."""
    return ["execute_read", *(["depthwise_read"] if config.dw_taps else []), "sfu_read", "store_read"]


def finish(bench: Environment) -> None:
    readers = reader_names(bench.config)
    required = [*(f"{name} returned a known word" for name in readers), "partial mask", "all refused but two"]
    required += [f"{name} refused" for name in (*readers[1:], "load_write")]
    if bench.config.act_banks >= len(readers):
        required.append("all at once")
    if bench.config.act_depth & bench.config.act_depth - 1:
        required.append("write past the end")
    bench.finish(require=required)
