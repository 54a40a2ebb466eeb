"""Read-after-write hazards of the SFU: an instruction that reads words still in the pipeline gets `drain`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from systolith.compiler.order.access import accesses
from systolith.compiler.schedule.step import Step
from systolith.config import Config

__all__ = ["drained"]


def drained(steps: Sequence[Step], config: Config) -> list[Step]:
    """The steps, with `drain` set where the SFU reads words it has written since the last drain."""
    written = np.full(config.act_depth, -1, np.int64)
    done, made = -1, []
    for index, step in enumerate(steps):
        if step.name == "SFU":
            touched = [access for access in accesses(step, config) if access.memory == "activations"]
            if any(int(access.view(written).max()) > done for access in touched if not access.write):
                step = replace(step, fields={**step.fields, "drain": 1})
                done = index - 1
            for access in touched:
                if access.write:
                    access.view(written)[...] = index
        made.append(step)
    return made
