"""What a run leaves to read: tables and pictures."""
