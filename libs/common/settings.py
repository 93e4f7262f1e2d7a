"""Reading a service's settings from the environment, once, at start-up.

A bad value stops the start and names key and value; nothing is silently replaced by a default.
Secrets are read from files that `..._FILE` keys name, so that they appear in no environment dump.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.errors import SettingsError

_SIZE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_size_bytes(text: str) -> int:
    """`'512Mi'`, `'2G'`, `'50M'`, `'1048576'` to bytes. Raises ValueError."""
    number = text.strip().rstrip("bB").lower()
    unit = number.lstrip("0123456789.")
    if unit not in _SIZE_UNITS or not number[: len(number) - len(unit)]:
        raise ValueError(f"not a size: {text!r}")
    return int(float(number[: len(number) - len(unit)]) * _SIZE_UNITS[unit])


@dataclass(frozen=True)
class Environment:
    """Typed access to environment variables under one prefix."""

    values: Mapping[str, str]
    prefix: str = "HYDRA_"

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(self.prefix + key, default)
        if value is None or not value.strip():
            raise SettingsError(self.prefix + key, value, "a non-empty text")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.values.get(self.prefix + key) or None

    def integer(
        self,
        key: str,
        default: int | None = None,
        *,
        minimum: int = 0,
        maximum: int | None = None,
    ) -> int:
        text = self.text(key, None if default is None else str(default))
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise SettingsError(self.prefix + key, text, f"a whole number of at least {minimum}")
        if maximum is not None and value > maximum:
            raise SettingsError(self.prefix + key, text, f"a whole number of at most {maximum}")
        return value

    def seconds(self, key: str, default: float | None = None) -> float:
        text = self.text(key, None if default is None else str(default))
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise SettingsError(self.prefix + key, text, "a number of seconds, 0 or more")
        return value

    def is_on(self, key: str, default: bool | None = None) -> bool:
        """Of a switch: `on` or `off`."""
        words = {True: "on", False: "off", None: None}
        text = self.text(key, words[default]).strip().lower()
        if text not in ("on", "off"):
            raise SettingsError(self.prefix + key, text, "on or off")
        return text == "on"

    def size_bytes(self, key: str, default: str | None = None) -> int:
        text = self.text(key, default)
        try:
            return parse_size_bytes(text)
        except ValueError as exc:
            raise SettingsError(self.prefix + key, text, "a size such as 512Mi or 2G") from exc

    def path(self, key: str, default: str | None = None) -> Path:
        return Path(self.text(key, default))

    def paths(self, key: str, default: str = "") -> tuple[Path, ...]:
        text = self.values.get(self.prefix + key, default)
        return tuple(Path(part) for part in text.split(":") if part)

    def secret(self, key: str) -> str:
        """The content of the file named by `<key>_FILE`, stripped."""
        path = self.path(key + "_FILE")
        try:
            value = path.read_text().strip()
        except OSError as exc:
            expected = f"a readable file ({exc.strerror})"
            raise SettingsError(f"{self.prefix}{key}_FILE", str(path), expected) from exc
        if not value:
            raise SettingsError(f"{self.prefix}{key}_FILE", str(path), "a file that is not empty")
        return value


@dataclass(frozen=True)
class BusSettings:
    url: str
    user: str
    password: str = field(repr=False)

    @classmethod
    def read(cls, env: Environment) -> "BusSettings":
        return cls(env.text("NATS_URL"), env.text("NATS_USER"), env.secret("NATS_PASSWORD"))


@dataclass(frozen=True)
class DatabaseSettings:
    """`url` is host, port and database without the password: postgresql://user@host:5432/name"""

    url: str
    password: str = field(repr=False)

    @classmethod
    def read(cls, env: Environment) -> "DatabaseSettings":
        return cls(env.text("DATABASE_URL"), env.secret("DATABASE_PASSWORD"))


@dataclass(frozen=True)
class ObjectStoreSettings:
    endpoint: str  # http://host:port
    bucket: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @classmethod
    def read(cls, env: Environment) -> "ObjectStoreSettings":
        return cls(
            endpoint=env.text("S3_ENDPOINT"),
            bucket=env.text("S3_BUCKET", "hydraserve"),
            region=env.text("S3_REGION", "us-east-1"),
            access_key=env.secret("S3_ACCESS_KEY"),
            secret_key=env.secret("S3_SECRET_KEY"),
        )
