"""Tests of hw/array/."""
