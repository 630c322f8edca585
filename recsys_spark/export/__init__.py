"""Copies of lists, neighbours and item vectors where applications read them: Redis, PostgreSQL, a folder."""
