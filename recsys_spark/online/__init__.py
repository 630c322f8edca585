"""Evaluation of what was shown: off-policy estimates, interleaving, tests of two arms."""
