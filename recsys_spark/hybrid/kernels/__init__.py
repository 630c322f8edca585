"""Ridge regression of item weights: arrays only, no Spark."""
