"""Ends accepted requests that cannot be served; tells their gateways why, and their workers."""

from collections.abc import Sequence
from typing import Literal

from libs.common.bus.messages import CancelRequest, RequestRefused
from libs.common.bus.subjects import ENDPOINT_CANCEL, REQUEST_REFUSED
from libs.common.states import RequestOutcome
from services.scheduler.rounds.round import Round
from services.scheduler.store import requests
from services.scheduler.store.requests import Request

Code = Literal["model_failed", "worker_crashed", "no_capacity", "deadline", "gateway_lost"]


async def refuse(
    round_: Round, ended: Sequence[Request], outcome: RequestOutcome, code: Code, message: str
) -> None:
    await requests.end(round_.session, [request.id for request in ended], outcome, message)
    for request in ended:
        refusal = RequestRefused(
            request_id=request.id, attempt=request.attempt, code=code, message=message
        )
        round_.send(REQUEST_REFUSED, request.id, refusal)
        if request.endpoint_id is not None:
            # Where no gateway is left to do it; if this is lost, the worker's own deadline ends it.
            cancel = CancelRequest(request_id=request.id, attempt=request.attempt)
            round_.send(ENDPOINT_CANCEL, request.endpoint_id, cancel)
