"""Keeping a service's secrets from the processes beside it that run what strangers wrote."""

from libs.common.process.prctl import forbid_inspection
from libs.common.settings import Environment


def hide_process(env: Environment) -> None:
    """Where FORBID_INSPECTION is 1, no process of the same user can look into this one.

    The embedded stack finds its own processes by their environments, so there it is 0. Raises
    SettingsError, OSError.
    """
    if env.integer("FORBID_INSPECTION", 0):
        forbid_inspection()
