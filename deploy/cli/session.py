"""What the options before the command say, for the commands behind them."""

from dataclasses import dataclass

import httpx
import typer

from deploy.cli.client import Client
from deploy.cli.target import find_target
from deploy.local.state.state_folder import StateFolder


@dataclass(frozen=True)
class Session:
    url: str | None
    api_key: str | None
    state: StateFolder  # of a stack on this machine
    transport: httpx.BaseTransport | None = None  # tests answer in the server's place

    def connect(self) -> Client:
        """Raises NotConnected, NotAuthorized."""
        return Client(find_target(self.url, self.api_key, self.state), self.transport)


def connect(context: typer.Context) -> Client:
    session = context.find_object(Session)
    assert session is not None  # the app's callback runs before every command
    return session.connect()
