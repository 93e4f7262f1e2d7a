"""`python -m services.fetcher.imports`: imports models and does nothing else.

Where nodes shall neither write to the object store nor carry what conversion needs, their fetchers
run with HYDRA_CAN_IMPORT=0 and this process takes all imports.
"""

import os

import uvloop

from libs.common.process.privacy import hide_process
from libs.common.settings import Environment
from services.fetcher import bootstrap
from services.fetcher.settings import ImporterSettings

if __name__ == "__main__":
    env = Environment(os.environ)
    hide_process(env)
    settings = ImporterSettings.read(env)
    bootstrap.configure(settings)
    uvloop.run(bootstrap.run_importer(settings))
