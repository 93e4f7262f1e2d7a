"""What the servers' contents are called, in every deployment. Standard library only."""

from collections.abc import Mapping
from typing import Final

BUCKET: Final = "hydraserve"
REGION: Final = "us-east-1"
DATABASE: Final = "hydra"
API_KEY_PREFIX: Final = "hs-"

# The login of each service that speaks to Postgres; the first owns the database and migrates it.
DATABASE_ROLES: Final[Mapping[str, str]] = {"scheduler": "hydra", "gateway": "hydra_gateway"}

# Who has a login of their own on the bus and in the object store.
NATS_USERS: Final = ("gateway", "scheduler", "fetcher", "worker")
STORE_ADMINISTRATOR: Final = "admin"
STORE_READERS: Final = ("gateway", "fetcher")
STORE_WRITER: Final = "importer"

# Secrets are files with these names, in whatever folder a deployment keeps them.
POSTGRES_ADMINISTRATOR_SECRET: Final = "postgres-administrator"
API_KEY_SECRET: Final = "api-key"


def nats_secret(service: str) -> str:
    return f"nats-{service}"


def postgres_secret(role: str) -> str:
    return f"postgres-{role}"


def store_access_key(user: str) -> str:
    return f"s3-{user}-access-key"


def store_secret_key(user: str) -> str:
    return f"s3-{user}-secret-key"
