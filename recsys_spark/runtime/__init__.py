"""The frame of every job: configuration, session, progress, exit code, task device."""
