"""Arithmetic of recommend on arrays."""
