"""Simulators of the accelerator, the references they are held to, and random tests of everything."""
