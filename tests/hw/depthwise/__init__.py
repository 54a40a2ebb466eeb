"""Tests of hw/depthwise/."""
