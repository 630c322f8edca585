"""Weights of events: by type and rating, decay, sessions."""
