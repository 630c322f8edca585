"""Injected attacks, and how far users and items are from the others."""
