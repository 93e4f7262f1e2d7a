"""Worker processes that wait ready-made: forked from a parent that has imported torch."""
