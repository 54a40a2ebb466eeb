"""Testbenches of the hardware's blocks, `*_bench.py`, each against a plain model."""
