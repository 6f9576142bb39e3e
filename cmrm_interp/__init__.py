"""Representation steering and interpretability for vision-language models."""

__version__ = "0.1.0"
