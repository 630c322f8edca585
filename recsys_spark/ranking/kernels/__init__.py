"""Features of candidates and the model that ranks them: arrays only, no Spark."""
