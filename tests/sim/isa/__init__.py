"""Tests of sim/isa/."""
