"""Reasons for the rows of a list."""
