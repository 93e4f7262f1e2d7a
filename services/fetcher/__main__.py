"""The fetcher of a node: `python -m services.fetcher`."""

import os

import uvloop

from libs.common.settings import Environment
from services.fetcher import bootstrap
from services.fetcher.settings import FetcherSettings

if __name__ == "__main__":
    settings = FetcherSettings.read(Environment(os.environ))
    bootstrap.configure(settings)
    uvloop.run(bootstrap.run(settings))
