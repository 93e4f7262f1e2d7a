"""`python -m tests.support.rerun`: exits as the suite did, or with 0 if its failures were flaky."""

import sys
from datetime import UTC, datetime

from deploy.local.state.state_folder import StateFolder
from tests.support.rerun.suite import make_commands, run_suite

if __name__ == "__main__":
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    sys.exit(run_suite(make_commands(), StateFolder.from_environment().path / "flaky" / moment))
