"""Raw rows to the tables items, users, user_rules and events."""
