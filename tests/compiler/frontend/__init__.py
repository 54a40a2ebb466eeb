"""Tests of compiler/frontend/."""
