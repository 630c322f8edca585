"""Recommendation lists: full, incremental, approximate, hybrid."""
