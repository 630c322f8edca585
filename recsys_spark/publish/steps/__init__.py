"""Steps of publish: they read tables, call transformations and publish."""
