"""Item-item weights and sparse user histories."""
