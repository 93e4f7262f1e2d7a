"""Reads from a stack what became of a trace: through its API, and measurements from Postgres."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from sqlalchemy import select

from benchmarks.coldpath.bound import model_bytes
from benchmarks.replay.client import ClientAnswer
from benchmarks.replay.record import (
    MeasuredValues,
    ModelFacts,
    RequestRecord,
    StartRecord,
    StepRecord,
)
from benchmarks.replay.trace import TraceRequest
from deploy.local.stack import LocalStack
from libs.common.records.database import create_engine
from libs.common.records.tables import MeasurementRow, ModelRow, NodeEngineRow

Json = Mapping[str, Any]
_TIMEOUT_S = 30.0
_MAX_REQUESTS, _MAX_STARTS = 1000, 200  # of one model, as the API gives them
_HOURS, _ALL_HOURS = 24, 24 * 31


@dataclass(frozen=True)
class StackReader:
    """`http` is connected to the stack's gateway."""

    stack: LocalStack
    http: httpx.AsyncClient

    async def get(self, path: str) -> Any:
        return (await self.http.get(path)).raise_for_status().json()

    async def live_endpoints(self) -> int:
        return len(await self.get("/api/v1/endpoints"))

    async def standbys(self) -> int:
        return sum(node["num_standbys"] for node in await self.get("/api/v1/nodes"))

    async def device_byte_s(self) -> float:
        usage = await self.get(f"/api/v1/usage?hours={_ALL_HOURS}")
        return float(sum(model["memory"]["total_byte_s"] for model in usage["models"]))

    async def starts(self, models: Sequence[str], since: datetime) -> dict[str, Json]:
        """Those that were decided since then, with their steps, by id."""
        found = {}
        for model in models:
            path = f"/api/v1/cold-starts?model={model}&limit={_MAX_STARTS}"
            for start in await self.get(path):
                if datetime.fromisoformat(start["started_at"]) >= since:
                    found[start["id"]] = await self.get(f"/api/v1/cold-starts/{start['id']}")
        return found

    async def requests(self, models: Sequence[str]) -> dict[str, Json]:
        """By id."""
        found = {}
        for model in models:
            path = f"/api/v1/requests?model={model}&hours={_HOURS}&limit={_MAX_REQUESTS}"
            found.update({request["id"]: request for request in await self.get(path)})
        return found

    async def facts(self, models: Sequence[str]) -> tuple[ModelFacts, ...]:
        found = []
        for name in models:
            weights = await model_bytes(self.stack, name)
            layers = len(weights.layer_bytes)
            found.append(ModelFacts(name, layers, weights.total_bytes, weights.end_bytes))
        return tuple(found)

    async def measured(self) -> tuple[tuple[MeasuredValues, ...], dict[str, float]]:
        """What the scheduler keeps of nodes, models and the cluster; how long processes launch."""
        engine = create_engine(self.stack.servers.database_settings("scheduler"), pool_size=1)
        try:
            async with engine.connect() as session:
                names = dict((await session.execute(select(ModelRow.id, ModelRow.name))).all())
                columns = (MeasurementRow.quantity, MeasurementRow.node_id)
                query = select(*columns, MeasurementRow.model_id, MeasurementRow.values)
                rows = (await session.execute(query)).all()
                engines = select(NodeEngineRow.node_id, NodeEngineRow.launch_s)
                launches = (await session.execute(engines)).all()
        finally:
            await engine.dispose()
        values = [
            MeasuredValues(row[0], row[1], names.get(row[2], row[2]), tuple(row[3])) for row in rows
        ]
        return tuple(values), {node: took_s for node, took_s in launches if took_s is not None}


@asynccontextmanager
async def reader(stack: LocalStack) -> AsyncIterator[StackReader]:
    async with httpx.AsyncClient(
        base_url=stack.gateway_url,
        headers={"Authorization": f"Bearer {stack.api_key}"},
        timeout=_TIMEOUT_S,
        trust_env=False,
    ) as http:
        yield StackReader(stack, http)


def request_records(
    trace: Sequence[TraceRequest],
    answers: Sequence[ClientAnswer],
    requests: Mapping[str, Json],
    starts: Mapping[str, Json],
    began_at: datetime,
) -> Iterator[RequestRecord]:
    """In the order of the trace. Pure, as is what follows."""
    stages = {start["endpoint_id"]: _num_stages(start) for start in starts.values()}
    for asked, answer in zip(trace, answers, strict=True):
        row = requests.get(answer.request_id)
        if row is None:
            yield _lost(asked, answer)
            continue
        yield RequestRecord(
            index=asked.index,
            model=asked.model,
            arrived_at_s=_since_s(began_at, row["arrived_at"]),
            ttft_s=_seconds(row["ttft"]["took_ms"]),
            tpot_s=_seconds(row["tpot"]["took_ms"]),
            ttft_slo_s=row["ttft"]["slo_ms"] / 1000,
            tpot_slo_s=row["tpot"]["slo_ms"] / 1000,
            is_cold=row["cold_start_id"] is not None,
            num_stages=stages.get(row["endpoint_id"]),
            num_prompt_tokens=row["num_prompt_tokens"],
            num_output_tokens=row["num_generated_tokens"],
            client_ttft_s=answer.ttft_s,
            error=answer.error,
        )


def start_records(
    starts: Mapping[str, Json], requests: Mapping[str, Json], began_at: datetime
) -> Iterator[StartRecord]:
    """In the order in which they were decided."""
    for start in sorted(starts.values(), key=lambda item: str(item["started_at"])):
        decided_at = datetime.fromisoformat(start["started_at"])
        asked = requests.get(start["request_id"] or "")
        yield StartRecord(
            model=start["model"],
            at_s=(decided_at - began_at).total_seconds(),
            num_stages=_num_stages(start),
            weight_bytes=start["weight_bytes"],
            bytes_from_cache=start["bytes_from_cache"],
            num_prompt_tokens=None if asked is None else asked["num_prompt_tokens"],
            ttft_s=None if asked is None else _seconds(asked["ttft"]["took_ms"]),
            predicted_ttft_s=_seconds(start["predicted_ttft_ms"]),
            measured_ttft_s=_seconds(start["measured_ttft_ms"]),
            steps=tuple(_step(step, decided_at) for step in start["steps"]),
        )


def _lost(asked: TraceRequest, answer: ClientAnswer) -> RequestRecord:
    return RequestRecord(
        *(asked.index, asked.model, asked.at_s, None, None, 0.0, 0.0, False, None, 0, 0),
        error=answer.error or "there is no row of it",
    )


def _num_stages(start: Json) -> int:
    """Of the plan that was taken; of one without plans, of those that were told to begin."""
    if start["plans"]:
        return int(start["plans"][0]["num_stages"])
    return len({step["stage_index"] for step in start["steps"]} - {None})


def _step(body: Json, began_at: datetime) -> StepRecord:
    ended = body["ended_at"]
    return StepRecord(
        *(body["actor"], body["name"], body["node_id"], body["stage_index"]),
        start_s=_since_s(began_at, body["started_at"]),
        end_s=None if ended is None else _since_s(began_at, ended),
        detail=body["detail"],
    )


def _since_s(began_at: datetime, moment: str) -> float:
    return (datetime.fromisoformat(moment) - began_at).total_seconds()


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
