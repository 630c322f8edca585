"""Steps of events: they read tables, call transformations and publish."""
