"""Step that fits and publishes item weights."""
