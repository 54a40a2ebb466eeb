"""Tests of sim/compare/."""
