"""Reasons for the rows of a recommendation list."""
