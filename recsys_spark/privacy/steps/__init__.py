"""Steps of privacy: they read tables, call transformations and publish."""
