"""Generated secrets: each in a file that only its owner may read, made once and reused."""

import os
import secrets
from pathlib import Path


class Credentials:
    """A 0700 folder of 0600 files, one secret each. Services are told the file, not the secret."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    def secret(self, name: str, *, prefix: str = "") -> str:
        """The secret called `name`, generated on first use: `prefix` and 192 random bits."""
        return self.path(name, prefix=prefix).read_text().strip()

    def path(self, name: str, *, prefix: str = "") -> Path:
        """The file that holds it, generated on first use."""
        path = self._folder / name
        if not path.exists():
            self._write(path, prefix + secrets.token_hex(24))
        return path

    def put(self, name: str, secret: str) -> None:
        """A secret that comes from elsewhere."""
        if not (self._folder / name).exists() or self.secret(name) != secret:
            self._write(self._folder / name, secret)

    def _write(self, path: Path, secret: str) -> None:
        """Whole or not at all: a crash leaves no empty secret behind."""
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.unlink(missing_ok=True)
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
