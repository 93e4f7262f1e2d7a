"""The model's configuration, as the engine's own error where it is not one that it runs."""

from collections.abc import Mapping

from libs.common.modelconfig.config import ModelConfig
from libs.common.modelconfig.errors import ModelConfigError
from libs.common.modelconfig.read import read_model_config
from services.worker.engine.errors import ConfigError


def parse_config(document: Mapping[str, object]) -> ModelConfig:
    """Read a config.json as transformers writes it. Raises ConfigError, naming the key."""
    try:
        return read_model_config(document)
    except ModelConfigError as exc:
        raise ConfigError(exc.key, exc.reason) from exc
