"""Steps of report: they read tables, call transformations and publish."""
