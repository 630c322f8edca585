"""user_profiles and events to segments."""
