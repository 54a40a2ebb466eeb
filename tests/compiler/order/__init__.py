"""Tests of compiler/order/."""
