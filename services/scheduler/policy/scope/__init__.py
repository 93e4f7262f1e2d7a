"""What a round looks at, of all that there is."""
