"""Identifiers: a prefix that says the kind, then 20 random base-32 characters (100 bits).

They go into NATS subjects and file names, so only lower-case letters, digits and `-` appear.
"""

import hashlib
import re
import secrets

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_BY_BYTE = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256)).encode()
_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def new_id(kind: str) -> str:
    return f"{kind}-" + "".join(secrets.choice(_ALPHABET) for _ in range(20))


def derived_id(kind: str, nonce: str, name: str) -> str:
    """The same for the same arguments; as good as random where the nonce is, e.g. a `new_id`."""
    digest = hashlib.blake2b(f"{nonce}/{kind}/{name}".encode(), digest_size=20).digest()
    return f"{kind}-{digest.translate(_BY_BYTE).decode()}"


def kind_of(id_: str) -> str:
    """What `new_id` was given."""
    return id_.rpartition("-")[0]


def is_id(text: str) -> bool:
    """Whether text is safe as one token of a subject and as a file name."""
    return _PATTERN.fullmatch(text) is not None
