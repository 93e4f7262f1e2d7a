"""Errors that more than one package raises or maps.

HydraError
├── SettingsError          a setting is missing or malformed: key, value, what is expected
├── BusError
│   ├── BusTimeout         nobody answered in time
│   ├── BusNoResponders    nobody listens on the subject
│   └── BusPayloadTooLarge the encoded message is over the server's limit
├── ManifestError          a manifest is malformed or does not match its digest
├── SafetensorsError       bytes that are not what the safetensors format allows
├── UnsupportedMachine     weights cannot be shared between processes on this kind of machine
├── UnitFileError          a unit file is malformed, foreign, lost or failed
│   ├── UnitFileLost       its writer's heartbeat stopped
│   ├── UnitFileFailed     its writer gave up: `code` says why
│   └── UnitFileTimeout    its bytes did not arrive before the reader's deadline
├── NicRateLimiterError    the rate limiter of a node: its file is missing or foreign
├── UnitsRefused           a worker asked its fetcher for units and cannot have them: a code
├── ObjectStoreError
│   ├── ObjectMissing      no object under that key
│   ├── ObjectTooLarge     more bytes than the caller allows
│   ├── ObjectStoreRefused the store answers, and says no (credentials, ranges): do not repeat
│   └── ObjectStoreDown    the store cannot be reached or answers 5xx (try again)
├── DatabaseUnavailable    Postgres cannot be reached, or takes no writes (try again)
├── RowsRefused            Postgres refuses what rows hold (do not repeat)
└── TokenizerRefused       a tokenizer.json asks for what nobody may run: the cause in words
"""


class HydraError(Exception):
    """Root of everything this project raises on purpose."""


class SettingsError(HydraError):
    def __init__(self, key: str, value: str | None, expected: str) -> None:
        self.key, self.value, self.expected = key, value, expected
        given = "is not set" if value is None else f"is {value!r}"
        super().__init__(f"setting {key} {given}; expected {expected}")


class BusError(HydraError):
    def __init__(self, subject: str, message: str) -> None:
        self.subject = subject
        super().__init__(f"{subject}: {message}")


class BusTimeout(BusError):
    def __init__(self, subject: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(subject, f"no answer within {timeout_s:g} s")


class BusNoResponders(BusError):
    def __init__(self, subject: str) -> None:
        super().__init__(subject, "nobody listens")


class BusPayloadTooLarge(BusError):
    def __init__(self, subject: str, size_bytes: int, max_bytes: int) -> None:
        self.size_bytes, self.max_bytes = size_bytes, max_bytes
        super().__init__(subject, f"message of {size_bytes} bytes, the limit is {max_bytes}")


class ManifestError(HydraError):
    pass


class SafetensorsError(HydraError):
    pass


class UnsupportedMachine(HydraError):
    pass


class UnitFileError(HydraError):
    pass


class UnitFileLost(UnitFileError):
    pass


class UnitFileFailed(UnitFileError):
    def __init__(self, digest: str, code: int, reason: str) -> None:
        self.digest, self.code, self.reason = digest, code, reason
        super().__init__(f"unit {digest} cannot be had: {reason}")


class UnitFileTimeout(UnitFileError):
    pass


class NicRateLimiterError(HydraError):
    pass


class UnitsRefused(HydraError):
    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class ObjectStoreError(HydraError):
    pass


class ObjectMissing(ObjectStoreError):
    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"object {key} does not exist")


class ObjectTooLarge(ObjectStoreError):
    def __init__(self, key: str, size_bytes: int, max_bytes: int) -> None:
        self.key, self.size_bytes, self.max_bytes = key, size_bytes, max_bytes
        super().__init__(f"object {key} has {size_bytes} bytes, the limit is {max_bytes}")


class ObjectStoreRefused(ObjectStoreError):
    pass


class ObjectStoreDown(ObjectStoreError):
    pass


class DatabaseUnavailable(HydraError):
    """With the SQLSTATE that Postgres answered with, if it answered at all."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(message)


class RowsRefused(HydraError):
    pass


class TokenizerRefused(HydraError):
    pass
