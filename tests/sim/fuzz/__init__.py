"""Tests of sim/fuzz/."""
