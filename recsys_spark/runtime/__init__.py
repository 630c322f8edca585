"""Start and end of a job: configuration, session, progress, task device."""
