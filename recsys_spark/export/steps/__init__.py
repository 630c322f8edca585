"""The step that exports, and its targets."""
