"""Tests of compiler/check/."""
