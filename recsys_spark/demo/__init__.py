"""MovieLens 100K from download to lists."""
