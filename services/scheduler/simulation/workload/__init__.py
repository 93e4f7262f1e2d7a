"""When requests come, for which models, and how long they are."""
