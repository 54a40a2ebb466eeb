"""Tests of compiler/partition/."""
