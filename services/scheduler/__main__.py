"""`python -m services.scheduler`"""

import os
import sys

import uvloop

from services.scheduler.bootstrap import run
from services.scheduler.settings import SchedulerSettings

if __name__ == "__main__":
    sys.exit(uvloop.run(run(SchedulerSettings.read(os.environ))))
