"""What the parameters of a chat request do to its answer."""

from typing import Any

from libs.common.sampling import SamplingParameters
from tests.unit.gateway.tiny import END_ID, ids_of
from tests.unit.gateway.world import gateway_world


async def test_max_tokens_ends_the_answer_with_length() -> None:
    async with gateway_world() as world:
        response = await world.chat(max_tokens=5)

        choice = response.json()["choices"][0]
        assert choice["message"]["content"] == "Hello"
        assert choice["finish_reason"] == "length"


async def test_log_probabilities_come_with_their_tokens() -> None:
    async with gateway_world() as world:
        response = await world.chat(max_tokens=2, logprobs=True, top_logprobs=2)

        entries = response.json()["choices"][0]["logprobs"]["content"]
        assert [entry["token"] for entry in entries] == ["H", "e"]
        assert entries[0]["bytes"] == [72]
        assert entries[0]["logprob"] == -0.5
        assert [entry["logprob"] for entry in entries[0]["top_logprobs"]] == [-0.5, -1.5]


async def test_log_probabilities_show_the_bytes_of_parts_of_characters() -> None:
    async with gateway_world() as world:
        world.worker.answer_ids = (*ids_of("€"), END_ID)

        response = await world.chat(logprobs=True)

        entries = response.json()["choices"][0]["logprobs"]["content"]
        assert [entry["token"] for entry in entries] == ["\\xe2", "\\x82", "\\xac"]
        assert bytes(byte for entry in entries for byte in entry["bytes"]) == "€".encode()


async def test_sampling_parameters_reach_the_worker_and_a_seed_is_always_set() -> None:
    async with gateway_world() as world:
        await world.chat(temperature=0, top_p=0.5, seed=7, max_completion_tokens=3)
        await world.chat()
        await world.chat()

        chosen, first, second = (message.sampling for message in world.worker.generated)
        assert (chosen.temperature, chosen.top_p, chosen.seed, chosen.max_tokens) == (0, 0.5, 7, 3)
        assert chosen.stop_token_ids == (END_ID,)
        assert first.temperature == 1.0
        assert first.seed != second.seed


async def test_what_changes_the_choice_of_tokens_reaches_the_worker() -> None:
    wanted: dict[str, Any] = {
        "top_k": 40,
        "min_p": 0.05,
        "presence_penalty": 2,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.2,
        "min_tokens": 3,
    }
    async with gateway_world() as world:
        await world.chat(**wanted, logit_bias={"5": -100, "0": 0.5})
        await world.chat(top_k=-1, max_tokens=5)

        chosen, plain = (message.sampling for message in world.worker.generated)
        assert {name: getattr(chosen, name) for name in wanted} == wanted
        assert chosen.logit_bias == ((5, -100.0), (0, 0.5))
        defaults = SamplingParameters(max_tokens=5, seed=plain.seed, stop_token_ids=(END_ID,))
        assert plain == defaults


async def test_a_clients_own_stop_tokens_come_beside_the_models_unless_that_is_ignored() -> None:
    stop_id = ids_of("w")[0]
    async with gateway_world() as world:
        world.worker.answer_ids = ids_of("Hello, w")
        response = await world.chat(stop_token_ids=[stop_id, END_ID])
        await world.chat(stop_token_ids=[stop_id], ignore_eos=True)

        first, second = (message.sampling for message in world.worker.generated)
        assert (first.stop_token_ids, first.ignore_eos) == ((END_ID, stop_id), False)
        assert (second.stop_token_ids, second.ignore_eos) == ((stop_id,), True)
        assert response.json()["choices"][0]["message"]["content"] == "Hello, "


async def test_an_ignored_end_token_leaves_no_trace_in_the_text() -> None:
    async with gateway_world() as world:
        world.worker.answer_ids = (*ids_of("Hel"), END_ID, *ids_of("lo"))

        response = await world.chat(ignore_eos=True, max_tokens=6)

        assert response.json()["choices"][0]["message"]["content"] == "Hello"
        assert response.json()["usage"]["completion_tokens"] == 6


async def test_no_stop_string_ends_an_answer_before_its_least_number_of_tokens() -> None:
    async with gateway_world() as world:
        world.worker.answer_ids = (*ids_of("a.b.c.d"), END_ID)

        texts = [
            (await world.chat(stop=".", min_tokens=least)).json()["choices"][0]["message"]
            for least in (0, 1, 2, 3, 5)
        ]

        assert [text["content"] for text in texts] == ["a", "a", "a.b", "a.b", "a.b.c"]
