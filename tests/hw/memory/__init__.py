"""Tests of hw/memory/."""
