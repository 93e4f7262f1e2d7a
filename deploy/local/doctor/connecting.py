"""Finds the Postgres of the stack that runs from a state folder."""

from deploy.bootstrap.credentials import Credentials
from deploy.bootstrap.names import DATABASE, DATABASE_ROLES, postgres_secret
from deploy.local.state.ports import LOOPBACK
from deploy.local.state.state_folder import StateFolder
from libs.common.settings import DatabaseSettings

_PORT_LINE = 3  # of Postgres's lock file, counted from 0
_OWNER = DATABASE_ROLES["scheduler"]


def database_of(folder: StateFolder) -> DatabaseSettings | None:
    """As the schema's owner; None where no Postgres runs, or only for another user."""
    try:
        lines = (folder.path / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
        port = int(lines[_PORT_LINE])
    except (OSError, IndexError, ValueError):
        return None
    password = Credentials(folder.credentials).secret(postgres_secret(_OWNER))
    return DatabaseSettings(f"postgresql://{_OWNER}@{LOOPBACK}:{port}/{DATABASE}", password)
