"""`python -m deploy.bootstrap nats-config | servers`: once, before the services start.

`python -m deploy.bootstrap sweep-objects [--delete]`: what no model in the store needs any more.

`python -m deploy.bootstrap sweep-objects --verify`: which objects in the store are damaged."""

import asyncio
import os
import sys

from deploy.bootstrap.object_sweeper import ImportUnderWay
from deploy.bootstrap.settings import NatsSettings, ServerSettings
from deploy.bootstrap.steps import prepare_servers, sweep_objects, verify_objects, write_nats_config
from libs.common.observability.telemetry import configure_logging
from libs.common.settings import Environment

if __name__ == "__main__":
    configure_logging("bootstrap")
    env = Environment(os.environ)
    match sys.argv[1:]:
        case ["nats-config"]:
            write_nats_config(NatsSettings.read(env))
        case ["servers"]:
            asyncio.run(prepare_servers(ServerSettings.read(env)))
        case ["sweep-objects", "--verify"]:
            asyncio.run(verify_objects(ServerSettings.read(env)))
        case ["sweep-objects", *options] if options in ([], ["--delete"]):
            try:
                asyncio.run(sweep_objects(ServerSettings.read(env), is_dry_run=not options))
            except ImportUnderWay as exc:
                sys.exit(str(exc))
        case _:
            sys.exit(__doc__)
