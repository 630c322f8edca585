"""Steps of hybrid: they read tables, call transformations and publish."""
