"""Tests of compiler/schedule/."""
