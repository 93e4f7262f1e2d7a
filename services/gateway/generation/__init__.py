"""One request's life, from its submission to its acknowledged end."""
