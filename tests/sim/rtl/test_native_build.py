"""Builds are kept by what they are made from."""

import subprocess
import sys
from pathlib import Path

from systolith.sim.rtl.native_build import SOURCES

IMPORTS = """
import sys
import systolith.hw.top, systolith.hw.lib.verilog
print(*(m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "systolith"), sep="\\n")
"""


def test_sources_are_all_that_the_hardware_imports():
    result = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    imported = {Path(line).resolve() for line in result.stdout.split()}
    assert len(imported) > 50 and imported <= {path.resolve() for path in SOURCES}
