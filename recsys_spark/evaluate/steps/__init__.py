"""Steps of evaluate: they read tables, call transformations and publish."""
