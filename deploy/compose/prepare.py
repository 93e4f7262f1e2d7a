"""`python3 -m deploy.compose.prepare`: the secrets' files and .env, made once; then left alone.

Each secret is a 0600 file that compose mounts into the containers that need it. Containers run as
the files' owner: whoever runs this, or, started by root, the images' own unprivileged user.
Standard library only: it runs before anything is installed.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.bootstrap.credentials import Credentials
from deploy.bootstrap.names import (
    API_KEY_PREFIX,
    API_KEY_SECRET,
    DATABASE_ROLES,
    NATS_USERS,
    POSTGRES_ADMINISTRATOR_SECRET,
    STORE_ADMINISTRATOR,
    STORE_READERS,
    STORE_WRITER,
    nats_secret,
    postgres_secret,
    store_access_key,
    store_secret_key,
)

_FOLDER = Path(__file__).parent
_IMAGE_UID = 10001  # of the Dockerfile
_GRAFANA_SECRET = "grafana-administrator"


@dataclass(frozen=True)
class Owner:
    uid: int
    gid: int


def owner_of_secrets(uid: int, gid: int) -> Owner:
    """No container of ours runs as root."""
    return Owner(uid, gid) if uid != 0 else Owner(_IMAGE_UID, _IMAGE_UID)


def make_secrets(folder: Path, owner: Owner, *, has_one_store_key: bool) -> list[Path]:
    """All of them, those that are missing newly made. Raises OSError."""
    credentials = Credentials(folder)
    paths = [credentials.path(API_KEY_SECRET, prefix=API_KEY_PREFIX)]
    paths += [credentials.path(name) for name in (*_names(), *_store_keys(STORE_ADMINISTRATOR))]
    for user in (*STORE_READERS, STORE_WRITER):
        for key, administrators in zip(
            _store_keys(user), _store_keys(STORE_ADMINISTRATOR), strict=True
        ):
            if has_one_store_key:
                credentials.put(key, credentials.secret(administrators))
            paths.append(credentials.path(key))
    for path in paths:
        if path.stat().st_uid != owner.uid:
            os.chown(path, owner.uid, owner.gid)
    return paths


def make_env(path: Path, example: Path, owner: Owner, *, has_one_store_key: bool) -> None:
    """`.env`, unless there is one: it is the operator's from then on."""
    if path.exists():
        return
    lines = [f"HYDRA_UID={owner.uid}", f"HYDRA_GID={owner.gid}"]
    if has_one_store_key:
        lines.append("STORE_USERS=given")
    path.write_text(f"{example.read_text()}\n# Who owns the secrets.\n" + "\n".join(lines) + "\n")


def _names() -> Iterator[str]:
    yield from map(nats_secret, NATS_USERS)
    yield POSTGRES_ADMINISTRATOR_SECRET
    yield from map(postgres_secret, DATABASE_ROLES.values())
    yield _GRAFANA_SECRET


def _store_keys(user: str) -> tuple[str, str]:
    return store_access_key(user), store_secret_key(user)


def main() -> None:
    parser = argparse.ArgumentParser(prog="prepare", description=__doc__)
    parser.add_argument(
        "--one-store-key",
        action="store_true",
        help="for an S3 server without MinIO's admin interface: all services share its one key",
    )
    options = parser.parse_args()
    owner = owner_of_secrets(os.geteuid(), os.getegid())
    one_key = options.one_store_key
    paths = make_secrets(_FOLDER / "secrets", owner, has_one_store_key=one_key)
    make_env(_FOLDER / ".env", _FOLDER / "env.example", owner, has_one_store_key=one_key)
    print(f"{len(paths)} secrets in {paths[0].parent}, options in {_FOLDER / '.env'}")


if __name__ == "__main__":
    main()
