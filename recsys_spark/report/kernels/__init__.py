"""Report arithmetic: arrays only, no Spark."""
