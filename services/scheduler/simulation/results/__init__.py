"""What a run came to: figures and a picture."""
