"""What `up` and `demo` read from the gateway's answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from deploy.local.errors import ApiError
from libs.common.observability.timeline import TimedStep

_DATA = "data: "


@dataclass(frozen=True)
class ModelInfo:
    name: str
    state: str
    cause: str | None
    bytes_done: int
    bytes_total: int

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        return cls(
            name=body["name"],
            state=body["state"],
            cause=body["cause"],
            bytes_done=body["bytes_done"],
            bytes_total=body["bytes_total"],
        )


@dataclass(frozen=True)
class ColdStartInfo:
    id: str
    weight_bytes: int
    bytes_from_cache: int
    steps: tuple[TimedStep, ...]

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        began = datetime.fromisoformat(body["started_at"])
        return cls(
            id=body["id"],
            weight_bytes=body["weight_bytes"],
            bytes_from_cache=body["bytes_from_cache"],
            steps=tuple(_step(step, began) for step in body["steps"]),
        )

    @property
    def stage_indexes(self) -> tuple[int, ...]:
        return tuple(sorted({s.stage_index for s in self.steps if s.stage_index is not None}))

    @property
    def node_ids(self) -> frozenset[str]:
        return frozenset(step.node_id for step in self.steps if step.node_id is not None)

    @property
    def is_complete(self) -> bool:
        """The first token is out, and every stage's steps have been reported to their ends. What
        follows the start may still go on, or have come to nothing."""
        wanted = {("first_token", 0), *(("ready", index) for index in self.stage_indexes)}
        return wanted <= {(step.name, step.stage_index) for step in self.steps} and all(
            step.end_s is not None for step in self.steps if step.is_of_start
        )


@dataclass(frozen=True)
class NodeInfo:
    node_id: str
    is_whole: bool  # its agent and its fetcher have been heard
    device_bytes: int
    reserved_bytes: int
    cached_bytes: int
    nic_bytes_per_s: int  # 0: no limit, or not heard yet
    num_workers: int

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        devices = body["devices"]
        return cls(
            node_id=body["id"],
            is_whole=None not in (body["agent_heard_at"], body["fetcher_heard_at"]),
            device_bytes=sum(device["memory_bytes"] for device in devices),
            reserved_bytes=sum(device["reserved_bytes"] for device in devices),
            cached_bytes=body["cache_used_bytes"],
            nic_bytes_per_s=body["nic_bytes_per_s"] or 0,
            num_workers=len(body["workers"]),
        )


@dataclass(frozen=True)
class StreamEvent:
    """The request's id, a comment on its progress while it waits, or a piece of its answer."""

    request_id: str = ""
    progress: str = ""
    text: str = ""

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """From one line of an SSE stream; None for what says nothing. Raises ApiError."""
        if line.startswith(":"):
            return cls(progress=_describe_progress(line[1:].strip()))
        if not line.startswith(_DATA) or line == f"{_DATA}[DONE]":
            return None
        body = json.loads(line.removeprefix(_DATA))
        if "error" in body:
            raise ApiError(f"the stream ended with an error: {body['error']['message']}")
        texts = (choice["delta"].get("content") for choice in body["choices"])
        return cls(text="".join(filter(None, texts)))


def _describe_progress(comment: str) -> str:
    """`progress {"phase": …, "bytes_done": …}` for people; other comments as they are."""
    word, _, text = comment.partition(" ")
    if word != "progress":
        return comment
    body = json.loads(text)
    parts = [body["phase"]]
    if body.get("queue_position"):
        parts.append(f"after {body['queue_position']} others")
    if body.get("bytes_total"):
        parts.append(f"{body['bytes_done'] / 1e6:.0f} of {body['bytes_total'] / 1e6:.0f} MB")
    return ", ".join(parts)


def _step(body: Mapping[str, Any], began: datetime) -> TimedStep:
    ended = body["ended_at"]
    return TimedStep(
        actor=body["actor"],
        name=body["name"],
        node_id=body["node_id"],
        stage_index=body["stage_index"],
        start_s=_seconds(began, body["started_at"]),
        end_s=None if ended is None else _seconds(began, ended),
        detail=body["detail"],
    )


def _seconds(began: datetime, moment: str) -> float:
    return (datetime.fromisoformat(moment) - began).total_seconds()
