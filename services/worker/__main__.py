"""The worker agent of a node: `python -m services.worker`."""

import os

import uvloop

from libs.common.process.privacy import hide_process
from libs.common.settings import Environment
from services.worker.agent import bootstrap
from services.worker.agent.settings import AgentSettings

if __name__ == "__main__":
    env = Environment(os.environ)
    hide_process(env)
    settings = AgentSettings.read(env)
    bootstrap.configure(settings)
    uvloop.run(bootstrap.run(settings))
