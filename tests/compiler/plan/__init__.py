"""Tests of compiler/plan/."""
