"""Routes without a key: liveness, readiness, version, metrics; also by the names of others."""

from importlib.metadata import version as version_of

from fastapi import APIRouter, Response
from starlette.responses import PlainTextResponse

from services.gateway.context import GatewayDep

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. Whether it can do its work is `/readyz`."""
    return {"status": "alive"}


@router.get("/readyz")
@router.get("/health")
@router.get("/ping")
@router.post("/ping")
async def readyz(gateway: GatewayDep, response: Response) -> dict[str, str | list[str]]:
    """503 with the reasons while new requests would fail here.

    `/health` is what clients of vLLM ask, `/ping` those of SageMaker.
    """
    reasons = gateway.reasons_not_ready()
    if reasons:
        response.status_code = 503
        return {"status": "not ready", "reasons": reasons}
    return {"status": "ready"}


@router.get("/version")
async def version() -> dict[str, str]:
    """Of this server."""
    return {"version": version_of("hydraserve")}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(gateway: GatewayDep) -> Response:
    return Response(await gateway.metrics.render(), media_type="text/plain; version=0.0.4")
