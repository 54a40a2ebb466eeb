"""Tests of sim/golden/."""
