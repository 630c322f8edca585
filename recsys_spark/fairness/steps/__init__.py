"""Staged lists to re-ranked lists."""
