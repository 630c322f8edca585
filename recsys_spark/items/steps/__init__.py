"""Steps of items: they read tables, call transformations and publish."""
