"""Steps of demo: they read tables, call transformations and publish."""
