"""The stack in containers: images, a compose file, and what prepares and shows it."""
