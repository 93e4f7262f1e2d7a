"""The zygote of a node: `python -m services.worker.runtime.standby <descriptor> <agent pid>`."""

import sys

from services.worker.runtime.standby.zygote import run

if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]))
