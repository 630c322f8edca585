"""What an event counts: weights, decay, sessions."""
