"""Exact Top-K over tiles of a matrix product: arrays only, no Spark."""
