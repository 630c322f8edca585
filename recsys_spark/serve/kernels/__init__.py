"""Search of memory-mapped files."""
