"""Steps of tune: they read tables, call transformations and publish."""
