"""Measurements of utilization and simulation speed: `systolith bench`."""
