"""Steps of profiles: they read tables, call transformations and publish."""
