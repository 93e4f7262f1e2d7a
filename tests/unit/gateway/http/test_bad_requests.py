"""Every request that cannot work gets its own status and code."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.common.bus.messages import SubmitRefused
from libs.common.reasons import Reason
from libs.common.states import ModelState
from services.gateway.settings import Limits
from tests.unit.gateway.tiny import model_entry, summary_of, tokenizer_files
from tests.unit.gateway.world import gateway_world


async def test_a_body_that_is_not_json_by_its_type_is_415() -> None:
    async with gateway_world() as world:
        response = await world.client.post("/v1/chat/completions", data={"model": "tiny"})

        assert response.status_code == 415


async def test_a_body_over_the_cap_is_413_whatever_its_length_header_says() -> None:
    async with gateway_world(limits=Limits(max_body_bytes=100, num_template_processes=1)) as world:

        async def chunks() -> Any:
            for _ in range(20):
                yield b"x" * 10

        honest = await world.chat("x" * 200)
        chunked = await world.client.post(
            "/v1/chat/completions", content=chunks(), headers={"Content-Type": "application/json"}
        )

        assert (honest.status_code, chunked.status_code) == (413, 413)


@pytest.mark.parametrize(
    "header", ["", "Bearer ", "Bearer wrong", "Basic abc", "Bearer " + "x" * 999]
)
async def test_a_wrong_or_missing_key_is_401_before_the_body_is_looked_at(header: str) -> None:
    async with gateway_world() as world:
        response = await world.client.post(
            "/v1/chat/completions", content=b"not json", headers={"Authorization": header}
        )

        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["x-request-id"]


async def test_an_unknown_model_is_404() -> None:
    async with gateway_world() as world:
        response = await world.chat(model="nope")

        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"
        assert "nope" in response.json()["error"]["message"]


async def test_another_tenants_model_is_404_too() -> None:
    async with gateway_world(entries=[model_entry(tenant="someone")]) as world:
        assert (await world.chat()).status_code == 404


@pytest.mark.parametrize(
    ("refusal", "status", "retry_after"),
    [
        (SubmitRefused(code=Reason.QUEUE_FULL, message="10 wait", retry_after_s=7), 429, "7"),
        (SubmitRefused(code=Reason.MODEL_BACKING_OFF, message="no", retry_after_s=9), 503, "9"),
        (SubmitRefused(code=Reason.MODEL_TOO_LARGE, message="needs 9 GB, there is 8"), 422, None),
        (SubmitRefused(code=Reason.WORKER_CRASHED, message="twice"), 500, None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_submission_has_a_real_status(
    refusal: SubmitRefused, status: int, retry_after: str | None, stream: bool
) -> None:
    async with gateway_world() as world:
        world.scheduler.refusal = refusal

        response = await world.chat(stream=stream)

        assert response.status_code == status
        assert response.headers.get("retry-after") == retry_after
        assert response.headers["x-hydra-reason"] == refusal.code
        assert response.json()["error"]["code"] == refusal.code
        assert response.json()["error"]["message"] == refusal.message
        assert world.gateway.dispatcher.open_ids == ()


async def test_a_model_that_is_being_imported_says_how_far_it_is() -> None:
    entry = model_entry(state=ModelState.IMPORTING, summary=None, bytes_done=3, bytes_total=9)
    entry = replace(entry, created_at=datetime.now(UTC) - timedelta(seconds=20))
    async with gateway_world(entries=[entry]) as world:
        response = await world.chat()

        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 40  # twice the bytes that took 20 s
        assert "3 of 9 bytes" in response.json()["error"]["message"]


async def test_a_model_that_is_imported_again_is_the_schedulers_to_refuse() -> None:
    """Endpoints that live have its weights, and nobody else knows whether there are any."""
    again = model_entry(state=ModelState.IMPORTING, cause="units/x is damaged")
    async with gateway_world(entries=[again]) as world:
        assert (await world.chat(stream=False)).status_code == 200
        world.scheduler.refusal = SubmitRefused(
            code=Reason.MODEL_NOT_READY, message="still being imported: units/x is damaged"
        )

        refused = await world.chat("another", stream=False)

        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert "units/x is damaged" in refused.json()["error"]["message"]


async def test_an_import_that_has_told_of_no_bytes_is_not_at_zero_of_zero() -> None:
    entry = model_entry(state=ModelState.IMPORTING, summary=None)
    async with gateway_world(entries=[entry]) as world:
        response = await world.chat()

        assert response.headers["retry-after"] == "5"
        assert "no byte is done yet" in response.json()["error"]["message"]


async def test_a_failed_import_says_why() -> None:
    entry = model_entry(state=ModelState.FAILED, summary=None, cause="layer 3 is missing")
    async with gateway_world(entries=[entry]) as world:
        response = await world.chat()

        assert response.status_code == 422
        assert "layer 3 is missing" in response.json()["error"]["message"]
        assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ 'a' * 10**9 }}", "memory"),
        (
            "{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}",
            "CPU|longer",
        ),
    ],
)
async def test_a_template_that_fails_is_400_with_its_cause(template: str, cause: str) -> None:
    files = tokenizer_files(template)
    entry = model_entry(summary=summary_of(files))
    async with gateway_world(entries=[entry], files=files) as world:
        response = await world.chat()

        assert response.status_code == 400
        assert response.json()["error"]["code"] == "chat_template_failed"
        assert re.search(cause, response.json()["error"]["message"])


async def test_a_path_that_does_not_exist_is_404_in_the_same_format() -> None:
    async with gateway_world() as world:
        response = await world.client.get("/v1/nothing")

        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"


async def test_the_wrong_method_is_405() -> None:
    async with gateway_world() as world:
        response = await world.client.get("/v1/chat/completions")

        assert response.status_code == 405
        assert "error" in response.json()


async def test_tokenizer_files_that_do_not_match_their_digest_are_refused() -> None:
    files = tokenizer_files()
    async with gateway_world(files={**files, "tokenizer.json": b"{}"}) as world:
        response = await world.chat()

        assert response.status_code in (500, 503)
        assert "tokenizer" in response.json()["error"]["message"]
