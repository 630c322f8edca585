"""Delta tables below one URI: data files, commits, readers."""
