"""Steps of topk: they read tables, call transformations and publish."""
