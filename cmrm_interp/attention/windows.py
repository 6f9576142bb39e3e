"""Knockouts in windows of layers."""
