"""Rows of stored files, from Arrow arrays."""
