"""What a command writes: tables, sizes and times in words, the terminal."""
