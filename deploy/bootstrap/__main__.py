"""`python -m deploy.bootstrap nats-config | servers`: once, before the services start."""

import asyncio
import os
import sys

from deploy.bootstrap.settings import NatsSettings, ServerSettings
from deploy.bootstrap.steps import prepare_servers, write_nats_config
from libs.common.settings import Environment
from libs.common.telemetry import configure_logging

if __name__ == "__main__":
    configure_logging("bootstrap")
    env = Environment(os.environ)
    match sys.argv[1:]:
        case ["nats-config"]:
            write_nats_config(NatsSettings.read(env))
        case ["servers"]:
            asyncio.run(prepare_servers(ServerSettings.read(env)))
        case _:
            sys.exit(__doc__)
