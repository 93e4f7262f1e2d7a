"""`python -m services.scheduler`"""

import os
import sys

import uvloop

from libs.common.process.privacy import hide_process
from libs.common.settings import Environment
from services.scheduler.bootstrap import run
from services.scheduler.settings import SchedulerSettings

if __name__ == "__main__":
    hide_process(Environment(os.environ))
    sys.exit(uvloop.run(run(SchedulerSettings.read(os.environ))))
