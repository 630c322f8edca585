"""Arithmetic of risk on arrays."""
