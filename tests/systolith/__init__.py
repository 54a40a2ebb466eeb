"""Tests of the contract and the command line."""
