"""What a scheduler counts, and where it is read."""
