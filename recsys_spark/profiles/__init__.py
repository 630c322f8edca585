"""Events to user vectors: pooling, ignored impressions, interests."""
