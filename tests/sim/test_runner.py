"""Running the testbenches' simulators: a kept build serves every environment, also after its own is gone."""

from cocotb_tools.config import libs_dir

from systolith.config import PRESETS
from systolith.sim.testbench import pe_bench
from systolith.sim.testbench.runner import run_bench

TINY = PRESETS["tiny4"]


def test_a_kept_build_outlives_the_environment_that_made_it(tmp_path, monkeypatch):
    """The build's own note of where cocotb's libraries are points nowhere, as after a clone was deleted."""
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    assert run_bench(pe_bench.component(TINY), pe_bench.__name__, TINY).passed
    (simulator,) = tmp_path.glob("cocotb/*/bench_top")
    program, place = simulator.read_bytes(), str(libs_dir).encode()
    assert place in program
    simulator.write_bytes(program.replace(place, b"/gone" + place[5:]))
    assert run_bench(pe_bench.component(TINY), pe_bench.__name__, TINY).passed
