"""Tests of hw/dma/."""
