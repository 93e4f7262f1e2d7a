"""A process that only imports, beside a node whose fetcher does not."""

import signal
from pathlib import Path

from libs.common.settings import ObjectStoreSettings
from libs.common.states import ImportState
from tests.integration.fetcher.fetcherprocess import (
    NODE,
    FetcherProcess,
    environment_of,
    running_fetcher,
)
from tests.integration.servers import RunningNats
from tests.unit.fetcher.imports.checkpoints import TinyCheckpoint
from tests.unit.fetcher.worlds import eventually

# What it is told: nothing of shared memory, sockets or caches.
NEEDLESS = ("HYDRA_SHM_DIR", "HYDRA_SOCKET_DIR", "HYDRA_HOST_CACHE_BYTES")


async def test_an_importer_imports_what_a_nodes_fetcher_leaves_to_it(
    tmp_path: Path, nats_server: RunningNats, object_store: ObjectStoreSettings
) -> None:
    folder = tmp_path / "importer"
    (folder / "models").mkdir(parents=True)
    TinyCheckpoint().write(folder / "models" / "tiny")
    health = folder / "healthy"
    environment = environment_of(
        folder, nats_server, object_store, NODE_ID="importer", HEALTH_FILE=str(health)
    )
    importer = FetcherProcess(
        folder,
        {key: value for key, value in environment.items() if key not in NEEDLESS},
        module="services.fetcher.imports",
    )
    async with running_fetcher(tmp_path, nats_server, object_store, CAN_IMPORT="0") as (_, heard):
        await importer.start()
        ended = await heard.imported(folder / "models" / "tiny")
        await eventually(health.exists)
        stopped = await importer.end(signal.SIGTERM)

    assert (ended.state, ended.node_id) == (ImportState.DONE, "importer"), ended
    assert stopped == 0
    assert {beat.node_id for beat in heard.heartbeats} == {NODE}
