"""Steps of refresh: they read tables, call transformations and publish."""
