"""Arithmetic of ingest: arrays only, no Spark."""
