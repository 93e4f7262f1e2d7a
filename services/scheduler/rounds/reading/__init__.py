"""What a round reads of rows beside the queue."""
