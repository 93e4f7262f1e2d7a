"""`python -m services.gateway`: settings from HYDRA_ variables."""

import os

import uvloop

from libs.common.process.privacy import hide_process
from libs.common.settings import Environment
from services.gateway.http.server import serve
from services.gateway.settings import GatewaySettings

if __name__ == "__main__":
    env = Environment(os.environ)
    hide_process(env)
    uvloop.run(serve(GatewaySettings.read(env)))
