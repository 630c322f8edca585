"""Profiles and lists between two nights, brought up to date by events as they arrive."""
