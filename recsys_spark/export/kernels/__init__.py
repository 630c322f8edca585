"""Files of a folder, from Arrow tables."""
