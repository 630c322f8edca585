"""Segments of users: groups of similar profiles that keep their ids."""
