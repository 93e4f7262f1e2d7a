"""ModelConfigError: a config.json that this project does not run; `key` names the culprit."""

from libs.common.errors import HydraError


class ModelConfigError(HydraError):
    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason
