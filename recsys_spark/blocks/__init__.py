"""Item block files that joins stream, and item clusters."""
