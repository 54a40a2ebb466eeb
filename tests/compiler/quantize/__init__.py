"""Tests of compiler/quantize/."""
