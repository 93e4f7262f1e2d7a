"""The models that a gateway knows, read from Postgres as they are asked for and as they change."""
