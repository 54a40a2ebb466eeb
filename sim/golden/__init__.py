"""The golden model: graphs in NumPy, exact integers."""
