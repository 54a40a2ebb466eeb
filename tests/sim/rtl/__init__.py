"""Tests of sim/rtl/."""
