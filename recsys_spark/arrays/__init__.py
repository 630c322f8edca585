"""Arrow, NumPy and SciPy arrays: conversions that several kernels share; no Spark."""
