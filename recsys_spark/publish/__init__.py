"""What every step does with its result: pin inputs, compare with the last run, audit, commit, log."""
