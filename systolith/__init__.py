"""Systolith: RTL accelerator generator. The public API; see README.md for the three jobs."""

from systolith.config import PRESETS, Config, load_config
from systolith.errors import SystolithError

__all__ = ["PRESETS", "Config", "SystolithError", "load_config"]
