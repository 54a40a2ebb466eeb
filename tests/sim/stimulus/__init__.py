"""Tests of sim/stimulus/."""
