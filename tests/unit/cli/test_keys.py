"""`hydraserve keys`."""

import json

import httpx

from tests.unit.cli.server import Server, run

KEY = {
    "id": "key-1",
    "tenant": "acme",
    "name": "of a robot",
    "created_at": "2026-01-01T00:00:00Z",
    "last_used_at": None,
}


def test_keys_are_listed_with_their_tenants_and_when_they_were_used() -> None:
    server = Server({"GET /api/v1/api-keys": [[KEY]]})

    result = run("keys ls --tenant acme", server)

    headings, row = result.stdout.splitlines()
    assert headings.split() == ["ID", "TENANT", "NAME", "CREATED", "USED"]
    assert row.startswith("key-1") and "acme" in row and "of a robot" in row
    assert row.split()[-1] == "never"
    assert dict(server.requests[0].url.params) == {"tenant": "acme"}


def test_a_new_key_alone_is_on_the_standard_output() -> None:
    created = httpx.Response(201, json=KEY | {"key": "hs-secret"})
    server = Server({"POST /api/v1/api-keys": created})

    result = run("keys add robot --tenant acme", server)

    assert result.stdout == "hs-secret\n" and "key-1" in result.stderr
    assert json.loads(server.requests[0].content) == {"name": "robot", "tenant": "acme"}


def test_a_key_is_revoked_by_its_id() -> None:
    server = Server({"DELETE /api/v1/api-keys/key-1": httpx.Response(204)})

    assert run("keys rm key-1", server).exit_code == 0
    assert run("keys rm key-2", server).exit_code == 1
