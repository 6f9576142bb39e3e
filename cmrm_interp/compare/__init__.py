"""Every defence side by side: chosen alike, measured alike, one table."""
