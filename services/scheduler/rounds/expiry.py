"""Ends requests that nobody will end otherwise: overdue, of a lost gateway, of a deleted model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.common.states import ModelState, RequestOutcome, RequestState
from services.scheduler.policy.cluster import Demand, Model
from services.scheduler.policy.gateway_liveness import Gateways
from services.scheduler.rounds.refusal import refuse
from services.scheduler.rounds.round import Round
from services.scheduler.store import accounts, endpoints, requests

DEADLINE_GRACE_S = 30.0  # gateway and worker end an assigned request themselves, at its deadline
LISTING_CHECK_S = 5.0
ACCOUNTS_CHECK_S = 60.0
UNREPORTED_S = 3600.0  # gateways write within seconds, once Postgres is there


@dataclass
class Expiry:
    _unlisted_since_s: dict[str, float] = field(default_factory=dict)  # by request
    _checked_at_s: dict[str, float] = field(default_factory=dict)

    async def end_hopeless(
        self, round_: Round, known_models: Mapping[str, Model], demands: Mapping[str, Demand]
    ) -> None:
        await _end_of_gone_models(round_, known_models, demands)
        if self._is_due("silence", round_.now_s, round_.timing.reconcile_interval_s):
            await _end_overdue(round_)
            await _end_of_lost_gateways(round_)
        listing_s = min(LISTING_CHECK_S, round_.timing.unlisted_s)
        if self._is_due("listing", round_.now_s, listing_s):
            await self._end_unlisted(round_)
        if self._is_due("accounts", round_.now_s, ACCOUNTS_CHECK_S):
            await accounts.close_unreported(round_.session, UNREPORTED_S)

    def _is_due(self, check: str, now_s: float, interval_s: float) -> bool:
        last_s = self._checked_at_s.get(check)
        if last_s is not None and now_s - last_s < interval_s:
            return False
        self._checked_at_s[check] = now_s
        return True

    async def _end_unlisted(self, round_: Round) -> None:
        """A gateway that lives but does not list a request for long has forgotten it."""
        unlisted = await _unlisted(round_)
        since_s = self._unlisted_since_s
        self._unlisted_since_s = {id_: since_s.get(id_, round_.now_s) for id_ in unlisted}
        limit_s = round_.timing.unlisted_s
        forgotten = [
            id_ for id_, at_s in self._unlisted_since_s.items() if round_.now_s - at_s >= limit_s
        ]
        found = await requests.load_of_ids(round_.session, forgotten)
        message = "the gateway does not know the request any more"
        await refuse(round_, found, RequestOutcome.GATEWAY_LOST, "gateway_lost", message)


async def _unlisted(round_: Round) -> set[str]:
    heard = round_.observed.gateways
    by_gateway = await requests.load_ids_by_gateway(round_.session)
    return {
        request_id
        for gateway_id, ids in by_gateway.items()
        if gateway_id in heard
        for request_id in ids.difference(heard[gateway_id].request_ids)
    }


async def _end_overdue(round_: Round) -> None:
    for request in await requests.load_expired(round_.session, DEADLINE_GRACE_S):
        message = "the request's deadline passed"
        if request.state is RequestState.QUEUED:
            cause = await endpoints.last_failure(round_.session, request.model_id)
            message += " while it waited for an endpoint"
            message += f"; the model's last failure: {cause}" if cause else ""
        await refuse(round_, [request], RequestOutcome.DEADLINE, "deadline", message)


async def _end_of_lost_gateways(round_: Round) -> None:
    gateways = Gateways(round_.observed, round_.timing)
    gateway_ids = await requests.load_gateway_ids(round_.session)
    lost = [id_ for id_ in gateway_ids if gateways.is_lost(id_)]
    if lost:
        found = await requests.load_of_gateways(round_.session, lost)
        message = "its gateway has ended, or is cut off"
        await refuse(round_, found, RequestOutcome.GATEWAY_LOST, "gateway_lost", message)


async def _end_of_gone_models(
    round_: Round, known_models: Mapping[str, Model], demands: Mapping[str, Demand]
) -> None:
    for model_id in demands:
        model = known_models.get(model_id)
        if model is not None and model.state is ModelState.READY:
            continue
        waiting = await requests.load_queued_of(round_.session, [model_id])
        cause = "was deleted" if model is None else f"is {model.state}: {model.cause or 'deleted'}"
        message = f"model {model_id} {cause}"
        await refuse(round_, waiting, RequestOutcome.MODEL_FAILED, "model_failed", message)
