"""Forgotten users and withdrawn items."""
