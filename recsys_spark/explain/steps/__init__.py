"""Steps of explain: they read tables, call transformations and publish."""
