"""What a driver may ask of a running process of hollow nodes."""
