"""Training of torch models: the loop, its checkpoints, the states of random generators."""
