"""The special function unit: windows, reduction, requantization, addition, table."""
