"""Data: the synthetic world of the model organism."""
