"""Fine-tuning of the encoder and search for hyperparameters."""
