"""Tests of hw/sfu/."""
