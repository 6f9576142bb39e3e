"""Bare torch: what the package does, done again with forward hooks alone, importing nothing from it.

An oracle is given a network of its own, because nnsight keeps the forwards of a network that it has traced wrapped.
"""
