"""Steps of online evaluation: they read logs, call transformations and publish."""
