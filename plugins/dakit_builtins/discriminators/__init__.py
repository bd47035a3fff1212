"""Real or generated."""
