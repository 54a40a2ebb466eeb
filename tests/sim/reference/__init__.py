"""Tests of sim/reference/."""
