"""Published lists: full, incremental, approximate, hybrid."""
