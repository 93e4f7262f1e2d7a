"""Who may connect to our Postgres, and the database that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

ADMINISTRATOR = "postgres"


@dataclass(frozen=True)
class Role:
    """A login. The first role of a list owns the database; the others get grants from it."""

    name: str
    password: str = field(repr=False)


async def create_roles(
    connection: "asyncpg.Connection[asyncpg.Record]", roles: Sequence[Role]
) -> None:
    """Creates what is missing and sets every password, so that a lost credential heals."""
    for role in roles:
        if not await _exists(connection, "pg_roles", "rolname", role.name):
            await connection.execute(f"CREATE ROLE {_identifier(role.name)} LOGIN")
        statement = f"ALTER ROLE {_identifier(role.name)} PASSWORD {_literal(role.password)}"
        await connection.execute(statement)


async def create_database(
    connection: "asyncpg.Connection[asyncpg.Record]",
    name: str,
    roles: Sequence[Role],
    *,
    template: str = "template1",
) -> None:
    """Makes a database that only `roles` can connect to, owned by the first of them."""
    if await _exists(connection, "pg_database", "datname", name):
        return
    database = _identifier(name)
    owner = _identifier(roles[0].name)
    await connection.execute(
        f"CREATE DATABASE {database} OWNER {owner} TEMPLATE {_identifier(template)}"
    )
    await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    for role in roles:
        await connection.execute(
            f"GRANT CONNECT ON DATABASE {database} TO {_identifier(role.name)}"
        )


async def drop_database(connection: "asyncpg.Connection[asyncpg.Record]", name: str) -> None:
    """Ends its connections too."""
    await connection.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")


async def _exists(
    connection: "asyncpg.Connection[asyncpg.Record]", catalog: str, column: str, name: str
) -> bool:
    query = f"SELECT EXISTS (SELECT FROM {catalog} WHERE {column} = $1)"
    return bool(await connection.fetchval(query, name))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    """A string literal: roles and databases take no parameters."""
    return "'" + text.replace("'", "''") + "'"
