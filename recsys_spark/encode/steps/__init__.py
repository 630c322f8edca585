"""Steps of encode: they read tables, call transformations and publish."""
