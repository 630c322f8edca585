"""The exact Top-K join: scorers, list rules, neighbours."""
