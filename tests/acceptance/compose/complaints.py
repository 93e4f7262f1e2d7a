"""What containers complain of in their logs."""

import re
from collections.abc import Iterable, Mapping

from tests.acceptance.compose.engine import Project

# Ours and the proxy's say the level as a word, NATS as three letters, Postgres with a colon.
_COMPLAINT = re.compile(
    r"\b(ERROR|CRITICAL|WARNING|FATAL|PANIC|ALERT|EMERG)\b|\[(ERR|WRN|FTL)\]|Traceback|Exception"
)


def complaints(project: Project, named: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Lines by service, without those that contain one of the service's `named` expressions."""
    found = {
        service: [
            line
            for line in project.compose(
                "logs", "--no-color", "--no-log-prefix", service
            ).splitlines()
            if _COMPLAINT.search(line)
            and not any(re.search(known, line) for known in named.get(service, ()))
        ]
        for service in project.services()
    }
    return {service: lines for service, lines in found.items() if lines}
