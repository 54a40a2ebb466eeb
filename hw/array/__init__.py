"""The systolic array: processing elements, rows, and the accumulators behind them."""
