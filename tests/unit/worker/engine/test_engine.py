"""The engine's life: what it refuses, how requests end, what it holds, which threads may ask."""

import copy
import random
from threading import Thread

import pytest
import torch

from libs.common.sampling import SamplingParameters
from libs.common.states import FinishReason
from services.worker.engine.engine import StageEngine
from services.worker.engine.errors import EngineError
from services.worker.engine_port import DecodeTime, Output, Request
from services.worker.errors import RequestRefused
from tests.support.failures import require_same_tokens
from tests.unit.worker.engine.tiny import MAX_CONTEXT, Tiny, generate

BYTES_PER_TOKEN = 2 * 3 * 32 * 4  # keys and values, layers, kv size, float32


def request(
    name: str, prompt: tuple[int, ...], attempt: int = 1, max_tokens: int = 5, **sampling: object
) -> Request:
    settings = {"seed": 1, "temperature": 0.0, "ignore_eos": True} | sampling
    return Request(name, attempt, prompt, SamplingParameters(max_tokens, **settings))  # type: ignore[arg-type]  # a test's own keywords


def finishes(outputs: list[Output]) -> dict[str, FinishReason | None]:
    return {output.request_id: output.finish for output in outputs}


REFUSED = (
    ({"prompt": ()}, "prompt is empty"),
    ({"prompt": (2,) * MAX_CONTEXT}, "no room"),
    ({"prompt": (2, 211)}, "vocabulary"),
    ({"prompt": (-1,)}, "vocabulary"),
    ({"prompt": (2,), "max_tokens": 0}, "max_tokens"),
    ({"prompt": (2,), "temperature": -0.1}, "temperature"),
    ({"prompt": (2,), "temperature": float("nan")}, "temperature"),
    ({"prompt": (2,), "top_p": 0.0}, "top_p"),
    ({"prompt": (2,), "top_k": -1}, "top_k"),
    ({"prompt": (2,), "min_p": 1.5}, "min_p"),
    ({"prompt": (2,), "seed": 2**64}, "seed"),
    ({"prompt": (2,), "num_logprobs": 21}, "log-probabilities"),
    ({"prompt": (2,), "min_tokens": 6}, "min_tokens 6 is not in"),
    ({"prompt": (2,), "repetition_penalty": 0.0}, "repetition_penalty is 0"),
    ({"prompt": (2,), "presence_penalty": float("nan")}, "presence_penalty is nan"),
    ({"prompt": (2,), "frequency_penalty": float("inf")}, "frequency_penalty is inf"),
    ({"prompt": (2,), "logit_bias": ((211, 1.0),)}, "logit_bias: 211 is not below 211"),
    ({"prompt": (2,), "logit_bias": ((5, float("nan")),)}, "logit_bias of 5 is nan"),
    ({"prompt": (2,), "logit_bias": ((5, 1.0), (5, 2.0))}, "a token twice"),
)


@pytest.mark.parametrize(("arguments", "reason"), REFUSED, ids=[r for _, r in REFUSED])
def test_what_can_never_be_served_is_refused_at_once(
    tiny: Tiny, arguments: dict[str, object], reason: str
) -> None:
    with pytest.raises(RequestRefused, match=reason):
        tiny.engine().add_request(request("r", **arguments))  # type: ignore[arg-type]  # a table


def test_a_prompt_that_the_kv_budget_cannot_hold_is_refused_with_the_numbers(tiny: Tiny) -> None:
    engine = tiny.engine(kv_bytes=50 * BYTES_PER_TOKEN)

    with pytest.raises(RequestRefused, match=r"51 tokens leave no room .* context of 51"):
        engine.add_request(request("r", tiny.prompt(51)))


def test_a_budget_below_two_tokens_is_an_error(tiny: Tiny) -> None:
    with pytest.raises(EngineError, match="hold 1 tokens of 768 bytes"):
        tiny.engine(kv_bytes=BYTES_PER_TOKEN * 2 - 1)


def test_a_request_ends_by_length_at_its_limit_or_the_contexts(tiny: Tiny) -> None:
    limited = request("limited", tiny.prompt(4), max_tokens=3)
    endless = request("endless", tiny.prompt(4), max_tokens=10**6)

    results = generate(tiny.engine(), limited, endless)

    assert results["limited"].last.finish is FinishReason.LENGTH
    assert len(results["limited"].token_ids) == 3
    assert results["endless"].last.finish is FinishReason.LENGTH
    assert len(results["endless"].token_ids) == MAX_CONTEXT - 4


def test_stop_tokens_end_a_request_and_are_part_of_it(tiny: Tiny) -> None:
    prompt = tiny.prompt(6)
    tokens = generate(tiny.engine(), request("r", prompt, max_tokens=40))["r"].token_ids
    stop = tokens[10]
    expected = tokens[: tokens.index(stop) + 1]

    by_request = request("by_request", prompt, max_tokens=40, stop_token_ids=(stop,))
    by_model = request("by_model", prompt, max_tokens=40, ignore_eos=False)
    ignored = request("ignored", prompt, max_tokens=40)
    engine = tiny.engine(eos_token_ids=frozenset({stop}))
    results = generate(engine, by_request, by_model, ignored)

    for name in ("by_request", "by_model"):
        require_same_tokens(results[name].token_ids, expected)
        assert results[name].last.finish is FinishReason.STOP
    require_same_tokens(results["ignored"].token_ids, tokens)


def test_an_attempt_whose_tokens_are_complete_ends_without_another(tiny: Tiny) -> None:
    sampling = SamplingParameters(3, seed=1, temperature=0)
    engine = tiny.engine()
    engine.add_request(Request("full", 2, (5,), sampling, generated_ids=(7, 8, 9)))
    engine.add_request(Request("stopped", 2, (5,), sampling, generated_ids=(7, 1)))

    full, stopped = engine.step()

    assert (full.finish, full.start_index, full.token_ids) == (FinishReason.LENGTH, 3, ())
    assert (stopped.finish, stopped.start_index) == (FinishReason.STOP, 2)


def test_cancelling_frees_a_running_and_a_waiting_request_at_the_next_step(tiny: Tiny) -> None:
    engine = tiny.engine(max_running=1)
    for name in ("running", "waiting", "other"):
        engine.add_request(request(name, tiny.prompt(50), max_tokens=100))
    engine.step()
    assert (engine.stats.num_running, engine.stats.num_waiting) == (1, 2)

    for name in ("running", "waiting", "unknown", "running"):
        engine.cancel(name, 1)
    outputs = engine.step()

    assert finishes(outputs) == {
        "running": FinishReason.CANCELLED,
        "waiting": FinishReason.CANCELLED,
        "other": None,
    }
    engine.cancel("other", 1)
    engine.step()
    assert engine.stats.kv_used_bytes == 0
    assert (engine.stats.num_running, engine.stats.num_waiting) == (0, 0)


def test_a_cancel_of_an_older_attempt_leaves_the_newer_one(tiny: Tiny) -> None:
    engine = tiny.engine()
    engine.add_request(request("r", tiny.prompt(5), attempt=2))
    engine.cancel("r", 1)

    (output,) = engine.step()

    assert (output.attempt, output.finish) == (2, None)


def test_a_newer_attempt_replaces_the_older_one_and_a_repetition_changes_nothing(
    tiny: Tiny,
) -> None:
    engine = tiny.engine()
    engine.add_request(request("r", tiny.prompt(5), attempt=1))
    engine.step()
    for attempt in (2, 2, 1):
        engine.add_request(request("r", tiny.prompt(5), attempt=attempt))

    outputs = engine.step()

    assert [(output.attempt, output.finish) for output in outputs] == [
        (1, FinishReason.CANCELLED),
        (2, None),
    ]


def test_a_value_that_is_not_finite_fails_its_request_alone(tiny: Tiny) -> None:
    """A poisoned embedding row stands for a model that overflows on one prompt."""
    poisoned = copy.copy(tiny)
    poisoned.weights = _Poisoned(tiny, token_id=7)  # type: ignore[assignment]  # a WeightSource too

    results = generate(poisoned.engine(), request("bad", (3, 7, 4)), request("good", (3, 5, 4)))

    assert results["bad"].last.finish is FinishReason.ERROR
    assert "not finite" in (results["bad"].last.error or "")
    assert results["good"].last.finish in (FinishReason.LENGTH, FinishReason.ERROR)


class _Poisoned:
    def __init__(self, tiny: Tiny, token_id: int) -> None:
        self._weights, self._token_id = tiny.weights, token_id

    def wait_unit(self, unit: object, timeout_s: float) -> None:
        return

    def tensor(self, unit: object, name: str) -> torch.Tensor:
        tensor = self._weights.tensor(unit, name)  # type: ignore[arg-type]  # handed through
        if name != "model.embed_tokens.weight":
            return tensor
        tensor = tensor.clone()
        tensor[self._token_id] = float("nan")
        return tensor


def test_what_every_request_needs_and_never_comes_ends_the_step_with_an_error(tiny: Tiny) -> None:
    class NeverReadable(_Poisoned):
        def wait_unit(self, unit: object, timeout_s: float) -> None:
            raise TimeoutError(f"{unit} is not readable after {timeout_s} s")

    engine = StageEngine(tiny.config, NeverReadable(tiny, 0), tiny.engine_options(unit_timeout_s=3))
    engine.add_request(request("r", (3,)))

    with pytest.raises(TimeoutError, match="not readable after 3 s"):
        engine.step()


@pytest.mark.parametrize("num_requests", [150, pytest.param(1_000, marks=pytest.mark.long)])
def test_under_random_arrivals_and_cancellations_every_request_ends_and_no_kv_leaks(
    tiny: Tiny, num_requests: int
) -> None:
    chance = random.Random(3)
    engine = tiny.engine(kv_bytes=300 * BYTES_PER_TOKEN, max_step_tokens=64)
    ended: dict[str, FinishReason] = {}
    names = [f"r{number}" for number in range(num_requests)]
    for name in names:
        prompt = tiny.prompt(chance.randint(1, 90), len(name))
        engine.add_request(request(name, prompt, max_tokens=chance.randint(1, 60)))
        if chance.random() < 0.3:
            engine.cancel(chance.choice(names), 1)
        for output in engine.step():
            if output.finish is not None:
                assert output.request_id not in ended
                ended[output.request_id] = output.finish
    while engine.stats.num_running + engine.stats.num_waiting:
        for output in engine.step():
            if output.finish is not None:
                assert output.request_id not in ended
                ended[output.request_id] = output.finish

    assert sorted(ended) == sorted(names)
    assert set(ended.values()) == {FinishReason.LENGTH, FinishReason.CANCELLED}
    assert engine.stats.kv_used_bytes == 0


def test_another_thread_submits_and_the_owner_wakes(tiny: Tiny) -> None:
    engine, outputs = tiny.engine(), list[Output]()

    def own() -> None:
        while not outputs or outputs[-1].finish is None:
            engine.wait_for_work(timeout_s=30.0)
            outputs.extend(engine.step())

    owner = Thread(target=own)
    owner.start()
    engine.add_request(request("r", tiny.prompt(10), max_tokens=4))
    owner.join(timeout=20.0)

    assert not owner.is_alive()
    assert [output.start_index for output in outputs] == [0, 1, 2, 3]


def test_stats_count_steps_and_tokens(tiny: Tiny) -> None:
    engine = tiny.engine(max_step_tokens=16)

    generate(engine, request("r", tiny.prompt(40), max_tokens=4))

    stats = engine.stats
    assert (stats.num_steps, stats.num_tokens_generated) == (3 + 3, 4)
    assert stats.num_tokens_computed == 40 + 3
    assert stats.kv_capacity_bytes == 4 * 2**20 // BYTES_PER_TOKEN * BYTES_PER_TOKEN
    assert stats.mean_step_s > 0


def test_prompts_and_decode_steps_are_timed_from_the_second_step_on(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one may have waited for weights, here or on another stage."""
    engine, now_s = tiny.engine(max_step_tokens=16), iter(range(10**6))
    monkeypatch.setattr("services.worker.engine.engine.perf_counter", lambda: next(now_s))

    generate(engine, request("a", tiny.prompt(10), max_tokens=1))
    assert (engine.stats.prefill_s_per_token, engine.stats.decode_times) == (None, ())
    generate(engine, request("b", tiny.prompt(40), max_tokens=3))

    # Each step takes from one tick to the next; three chunks of a prompt from tick 0 to tick 5.
    assert engine.stats.prefill_s_per_token == pytest.approx(5 / 40)
    assert engine.stats.decode_times == (DecodeTime(1, 1.0),)


def test_the_mean_time_of_steps_follows_the_latest_and_forgets_the_idle_ones(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, times_s = tiny.engine(), iter([0.0, 1.6, 2.0, 3.6, 4.0, 4.0, 5.0, 9.0])
    monkeypatch.setattr("services.worker.engine.engine.perf_counter", lambda: next(times_s))
    engine.add_request(request("r", tiny.prompt(10), max_tokens=3))

    means_s = []
    for _ in range(4):  # of 1.6, 1.6 and 0 s, and one that has nothing to do
        engine.step()
        means_s.append(engine.stats.mean_step_s)

    assert engine.is_idle and engine.stats.num_steps == 3
    assert means_s == pytest.approx([1.6, 1.6, 1.5, 1.5])
