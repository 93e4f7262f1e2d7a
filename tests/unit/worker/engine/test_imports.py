"""What a worker imports before its first token: torch and this engine."""

import subprocess
import sys

HEAVY = ("transformers", "pydantic", "nats", "libs.common.bus.messages", "sqlalchemy", "scipy")
SCRIPT = """
import sys
import services.worker.engine.engine
print(",".join(name for name in sys.argv[1:] if name in sys.modules))
"""


def test_the_engine_imports_torch_and_nothing_else_that_is_heavy() -> None:
    command = [sys.executable, "-c", SCRIPT, *HEAVY]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == ""
