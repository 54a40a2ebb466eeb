"""Tests of sim/host/."""
