"""Settings and small parts for tests of hollow nodes."""

from pathlib import Path

from benchmarks.controlplane.catalogue import unit_digests
from benchmarks.controlplane.hollow.fetching.host_cache import HollowHostCache
from benchmarks.controlplane.hollow.fetching.initial_units import InitialUnits
from benchmarks.controlplane.hollow.fetching.manifests import manifest_of
from benchmarks.controlplane.hollow.settings import (
    CatalogueSettings,
    HollowSettings,
    NatsSettings,
    NatsUserSettings,
)
from libs.common.weights.manifest import UnitEntry

NUM_MODELS = 50
NOBODY = NatsUserSettings(user="nobody", password_file=Path("/nonexistent"))


def hollow_settings(**changes: object) -> HollowSettings:
    values: dict[str, object] = {
        "nats": NatsSettings(url="nats://nowhere", fetcher=NOBODY, worker=NOBODY),
        "run_dir": Path("/nonexistent"),
        "models": CatalogueSettings(num_models=NUM_MODELS),
        "num_nodes": 1,
        **changes,
    }
    return HollowSettings.model_validate(values)


def units_of(number: int) -> tuple[UnitEntry, ...]:
    return manifest_of(number).units


def number_of_unit(digest: str) -> int | None:
    return _NUMBERS.get(digest)


def initial_units(*numbers: int) -> InitialUnits:
    return InitialUnits(frozenset(numbers), number_of_unit)


def host_cache(*numbers: int, max_bytes: int = 10**12) -> HollowHostCache:
    """That holds these models at the start."""
    return HollowHostCache(max_bytes, initial_units(*numbers))


_NUMBERS = {digest: number for number in range(NUM_MODELS) for digest in unit_digests(number)}
