"""Attacks on a vision-language model: what defences are tried against."""
