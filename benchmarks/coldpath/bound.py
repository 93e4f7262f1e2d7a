"""What the network alone makes of a cold start, at the least."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from deploy.local.stack import LocalStack
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.weights.manifest import UnitKind, manifest_key
from libs.common.weights.manifest_json import MAX_MANIFEST_BYTES, decode_manifest
from services.scheduler.policy.planning.split import Place, Weights, split


@dataclass(frozen=True)
class ModelBytes:
    """A layer is never cut, and the ends stay together on stage 0."""

    layer_bytes: Sequence[int]
    end_bytes: int  # embedding, final norm and head

    @property
    def total_bytes(self) -> int:
        return sum(self.layer_bytes) + self.end_bytes

    def largest_stage_bytes(self, num_stages: int) -> int:
        """Of the best contiguous split over equal nodes."""
        place = Place(2 * self.total_bytes, 1.0, self.layer_bytes, self.end_bytes)
        found = split(Weights(self.layer_bytes, self.end_bytes, 0), [place] * num_stages)
        assert found is not None, "there is room for everything everywhere"
        return round(found.finish_s)


async def model_bytes(stack: LocalStack, name: str) -> ModelBytes:
    """Of an imported model, from its manifest."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    async with httpx.AsyncClient(base_url=stack.gateway_url, headers=headers) as client:
        response = (await client.get(f"/api/v1/models/{name}")).raise_for_status()
    settings = stack.servers.object_store_settings("gateway")
    async with S3ObjectStore(settings) as store:
        key = manifest_key(response.json()["manifest_digest"])
        manifest = decode_manifest(await store.get(key, max_bytes=MAX_MANIFEST_BYTES))
    layers = [unit.size_bytes for unit in manifest.units if unit.kind is UnitKind.LAYER]
    return ModelBytes(layers, manifest.total_bytes - sum(layers))
