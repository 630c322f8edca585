"""Exact Top-K join of users with items: scorers, list rules, item neighbours."""
