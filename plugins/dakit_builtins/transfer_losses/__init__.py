"""Between teacher and student."""
