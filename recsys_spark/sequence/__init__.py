"""The sequence encoder: a user's last events, in their order, to one vector that finds the next item."""
