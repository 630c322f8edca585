"""Steps of ingest: they read tables, call transformations and publish."""
