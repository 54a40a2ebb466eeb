"""Channel order: layers that only move channels become addresses."""
