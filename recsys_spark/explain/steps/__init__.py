"""Steps of explain: read tables, call transformations, publish."""
