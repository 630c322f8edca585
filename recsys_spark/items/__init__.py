"""Item vectors from feature blocks; whitening and price quantiles."""
