"""Steps of risk: they read tables, call transformations and publish."""
