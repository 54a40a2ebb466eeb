"""Tests of hw/control/."""
