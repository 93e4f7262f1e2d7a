"""Prints the UUIDs of the GPUs that CUDA shows, in its order: `python -m …cuda.visible`."""

import json
import sys

from services.worker.errors import DriverError, DriverLacks
from services.worker.runtime.cuda.libcuda import LibCuda


def main() -> int:
    try:
        print(json.dumps(LibCuda().visible_uuids()))
    except (DriverError, DriverLacks) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
