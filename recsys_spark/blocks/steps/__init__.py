"""Steps that write and reuse item block files."""
