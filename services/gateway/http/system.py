"""Routes without a key: liveness, readiness, metrics."""

from fastapi import APIRouter, Response

from services.gateway.context import GatewayDep

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. Whether it can do its work is `/readyz`."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(gateway: GatewayDep, response: Response) -> dict[str, str | list[str]]:
    """503 with the reasons while new requests would fail here."""
    reasons = gateway.reasons_not_ready()
    if reasons:
        response.status_code = 503
        return {"status": "not ready", "reasons": reasons}
    return {"status": "ready"}


@router.get("/metrics")
async def metrics(gateway: GatewayDep) -> Response:
    return Response(gateway.metrics.render(), media_type="text/plain; version=0.0.4")
