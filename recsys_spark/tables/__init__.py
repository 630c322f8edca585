"""Contracts of the tables: schemas, keys, row digests, task stream types."""
