"""User profiles from events: pooling, ignored impressions, interests."""
