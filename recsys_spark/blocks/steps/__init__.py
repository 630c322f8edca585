"""Steps of blocks: they read tables, call transformations and publish."""
