"""Tests of compiler/passes/."""
