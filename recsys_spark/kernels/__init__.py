"""Pure array kernels: no Spark and no pandas below this line."""
