"""Why a command ended without doing its work, and the exit code that says so to scripts.

CliError
├── Refused         1  the server said no, or what it did failed
├── NotConnected    3  no server is known, or none answers there
├── NotAuthorized   4  no API key, or one that may not do that
└── TryLater        5  overloaded or not ready yet: the same command may work later

2 is a wrong command line, 130 is Ctrl-C, as everywhere. Messages are one line: the cause, then
what to do next.
"""

from libs.common.errors import HydraError


class CliError(HydraError):
    exit_code = 1


class Refused(CliError):
    pass


class NotConnected(CliError):
    exit_code = 3


class NotAuthorized(CliError):
    exit_code = 4


class TryLater(CliError):
    exit_code = 5
