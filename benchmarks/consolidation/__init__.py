"""What it takes that a pipeline becomes one worker, and what it buys."""
