"""The command line against the running stack, in a pipe and at a terminal."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text

from deploy.local.doctor.promises import Promise
from deploy.local.stack import LocalStack
from libs.common.records.database import Database
from tests.acceptance.client import Client
from tests.acceptance.commandline import TerminalSession, hydraserve
from tests.acceptance.invariants import require_invariants
from tests.acceptance.observing import settled
from tests.support.checkpoints import make_tiny_llama
from tests.support.failures import BrokenInvariant, require_same_tokens
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

CTRL_C, CTRL_D = "\x03", "\x04"
MODEL = "cli/tiny"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model(client: Client, stack: LocalStack, sources: Path) -> AsyncIterator[str]:
    """Added by the command line itself."""
    weights = make_tiny_llama(sources / "cli", seed=41, is_endless=True)
    added = await hydraserve(stack, "models", "add", MODEL, str(weights), "--keep-alive", "30")
    assert added.exit_code == 0, added.err
    assert f"{MODEL} is READY" in added.out
    yield MODEL
    removed = await hydraserve(stack, "models", "rm", MODEL)
    assert removed.exit_code == 0, removed.err
    await settled(stack, client)


async def test_a_question_in_a_pipe_gets_its_answer_on_stdout_alone(
    client: Client, stack: LocalStack, model: str
) -> None:
    options = ("--temperature", "0", "--max-tokens", "12")
    ended = await hydraserve(stack, "chat", model, "hello", *options)
    expected = await client.stream(model, "hello", temperature=0, max_tokens=12)

    assert ended.exit_code == 0, ended.err
    require_same_tokens(ended.out, f"{expected.text}\n")
    assert "\x1b" not in ended.out + ended.err


async def test_the_cold_start_of_that_question_is_explained(
    client: Client, stack: LocalStack, model: str
) -> None:
    await client.stream(model, "hello", max_tokens=1)
    newest = (await client.get(f"/api/v1/cold-starts?model={model}"))[0]["id"]

    async def has_first_token() -> bool:  # a node's last step comes with its next heartbeat
        start = await client.get(f"/api/v1/cold-starts/{newest}")
        return any(step["name"] == "first_token" for step in start["steps"])

    await eventually(has_first_token, timeout_s=60, poll_s=0.1, what="the whole record")
    shown = await hydraserve(stack, "cold-starts", "show", newest)
    told = await hydraserve(stack, "cold-starts", "show", newest, "--json")

    assert shown.exit_code == 0, shown.err
    start = json.loads(told.out)
    largest = start["shares"][0]["name"]  # which it is, the machine decides
    assert "critical path: " in shown.out
    assert largest in shown.out
    assert "█" in shown.out
    assert sum(share["fraction"] for share in start["shares"]) == pytest.approx(1)
    path = start["critical_path"]
    assert all(a["ended_at"] == b["started_at"] for a, b in pairwise(path))
    assert newest in (await hydraserve(stack, "cold-starts", "ls")).out


async def test_what_a_request_waited_for_is_in_its_view(client: Client, model: str) -> None:
    starts = await client.get(f"/api/v1/cold-starts?model={model}")
    request = await client.get(f"/api/v1/requests/{starts[-1]['request_id']}")

    assert request["cold_start_id"] == starts[-1]["id"]
    assert request["waited"]["for_cold_start_s"] > 0
    assert request["waited"]["for_endpoint_s"] >= 0
    assert request["ttft"]["ratio"] > 0


async def test_usage_and_requests_are_listed(client: Client, stack: LocalStack, model: str) -> None:
    await client.stream(model, "hello", max_tokens=2)
    usage, requests = (
        await hydraserve(stack, "usage"),
        await hydraserve(stack, "requests", "--model", model),
    )

    assert usage.exit_code == 0, usage.err
    assert any(line.startswith(model) for line in usage.out.splitlines())
    assert requests.exit_code == 0, requests.err
    assert "SLO" in requests.out.splitlines()[0] and model in requests.out


async def test_status_and_nodes_say_what_the_stack_holds(stack: LocalStack, model: str) -> None:
    status = await hydraserve(stack, "status")
    nodes = await hydraserve(stack, "nodes", "--json")

    assert status.exit_code == 0, status.err
    assert stack.gateway_url in status.out and "READY" in status.out
    names = [node["id"] for node in json.loads(nodes.out)]
    assert names == [node.node_id for node in stack.options.nodes]


@pytest.mark.parametrize(
    ("arguments", "variables", "exit_code", "words"),
    [
        (["models", "show", "nowhere"], {}, 1, "hydraserve models ls"),
        (["nodes"], {"HYDRASERVE_API_KEY": "wrong"}, 4, "HYDRASERVE_API_KEY"),
        (["nodes"], {"HYDRASERVE_URL": "http://127.0.0.1:9"}, 4, "--api-key"),
        (
            ["nodes"],
            {"HYDRASERVE_URL": "http://127.0.0.1:9", "HYDRASERVE_API_KEY": "x"},
            3,
            "hydraserve up",
        ),
        (["models", "add", "bad", "/etc/nothing"], {}, 1, "hydraserve models rm bad"),
    ],
)
async def test_an_error_is_one_line_with_the_next_step(
    stack: LocalStack, arguments: list[str], variables: dict[str, str], exit_code: int, words: str
) -> None:
    ended = await hydraserve(stack, *arguments, **variables)

    last = ended.err.splitlines()[-1]
    assert ended.exit_code == exit_code, ended.err
    assert last.startswith("hydraserve: ") and words in last
    assert "Traceback" not in ended.err and ended.out == ""
    if arguments[1:2] == ["add"]:
        await hydraserve(stack, "models", "rm", "bad")


async def test_ctrl_c_ends_the_answer_and_ctrl_d_the_conversation(
    stack: LocalStack, model: str
) -> None:
    session = await TerminalSession.open(stack, "chat", model, "--max-tokens", "3000")
    try:
        await session.shows(">>> ")
        session.type("tell me everything\n")
        await session.shows("tell me everything")
        await session.grows(200)
        session.type(CTRL_C)
        await session.shows("(cancelled)")
        await session.shows(">>> ", times=2)  # before it a Ctrl-D is nobody's
        assert session.process.returncode is None, "only the answer has ended"

        session.type(CTRL_D)
        assert await session.ended() == 0, session.screen
    finally:
        await session.close()


async def test_the_doctor_finds_every_promise_kept(
    client: Client, stack: LocalStack, model: str
) -> None:
    answer = await client.stream(model, "hello", temperature=0, max_tokens=4)
    assert answer.is_complete, answer

    ended = await hydraserve(stack, "doctor", "--invariants")

    assert ended.exit_code == 0, ended.out + ended.err
    rows = [line.split(maxsplit=2) for line in ended.out.splitlines() if " holds " in line]
    assert [int(number) for number, _, _ in rows] == list(Promise)
    assert "BROKEN" not in ended.out
    assert "runs here" not in ended.out, "every node was looked at"


async def test_the_doctor_names_what_is_broken(client: Client, stack: LocalStack) -> None:
    """A row that no stack of ours would write."""
    database = Database.open(stack.servers.database_settings("scheduler"))
    try:
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO leadership (id, epoch) VALUES (2, 0)"))

        ended = await hydraserve(stack, "doctor", "--invariants")
        with pytest.raises(BrokenInvariant, match="promise 12: there are 2 rows"):
            await require_invariants(stack)

        async with database.transaction() as session:
            await session.execute(text("DELETE FROM leadership WHERE id = 2"))
    finally:
        await database.close()
    assert ended.exit_code == 1
    assert "there are 2 rows of leadership" in ended.out
    assert "promises are broken" in ended.err
