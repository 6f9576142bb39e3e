"""Our hook points beside TransformerLens's on the same weights: ``make parity``."""
