"""Tests of hw/execute/."""
