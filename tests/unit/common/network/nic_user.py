"""A process that uses a card as hard as it may: `python -m … <limiter> <seconds>`.

It starts at a line on stdin and prints how many bytes it moved.
"""

import sys
import time
from pathlib import Path

from libs.common.network.nic_rate_limiter import NicRateLimiter

GRANT_BYTES = 64 * 1024


def main() -> None:
    limiter = NicRateLimiter.attach(Path(sys.argv[1]))
    sys.stdin.readline()  # all start at once
    ends_at_s, num_bytes = time.monotonic() + float(sys.argv[2]), 0
    while time.monotonic() < ends_at_s:
        limiter.acquire(GRANT_BYTES)
        num_bytes += GRANT_BYTES
    print(num_bytes)


if __name__ == "__main__":
    main()
