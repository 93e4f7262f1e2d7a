"""What every deployment makes in its servers before the services start."""
