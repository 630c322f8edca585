"""Step that trains the ranker on the days before the run date."""
