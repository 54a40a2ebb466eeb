"""Channel orders: layers that only move channels become addresses."""
