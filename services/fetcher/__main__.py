"""The fetcher of a node: `python -m services.fetcher`."""

import os

import uvloop

from libs.common.process.privacy import hide_process
from libs.common.settings import Environment
from services.fetcher import bootstrap
from services.fetcher.settings import FetcherSettings

if __name__ == "__main__":
    env = Environment(os.environ)
    hide_process(env)
    settings = FetcherSettings.read(env)
    bootstrap.configure(settings)
    uvloop.run(bootstrap.run(settings))
