"""The default lists: candidates of several sources, ranked by one small model."""
