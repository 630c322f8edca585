"""Steps of recommend: they read tables, call transformations and publish."""
