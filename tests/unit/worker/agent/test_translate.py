"""What the gateway asks for is what the engine is asked for."""

from dataclasses import fields

from libs.common.bus.messages import Generate
from libs.common.sampling import SamplingParameters
from services.worker.agent.requests.prompt_assembler import Prompt
from services.worker.agent.translate import generate_frame
from services.worker.frames.frames import HEADER_BYTES, GenerateTokens, decode_to_worker, encode
from services.worker.runtime.serving_loop import engine_request
from tests.unit.worker.values import generate

ALL_CHANGED = SamplingParameters(
    temperature=0.7,
    top_p=0.9,
    max_tokens=20,
    seed=2**64 - 1,
    stop_token_ids=(2, 7),
    ignore_eos=True,
    num_logprobs=3,
    top_k=40,
    min_p=0.05,
    min_tokens=3,
    repetition_penalty=1.1,
    presence_penalty=-1.5,
    frequency_penalty=0.25,
    logit_bias=((5, -100.0), (6, 0.5)),
)


def frame_of(message: Generate) -> GenerateTokens:
    return generate_frame(message, Prompt(message.prompt_ids, message.generated_ids))


def test_every_sampling_parameter_reaches_the_engine() -> None:
    sent = generate(sampling=ALL_CHANGED)

    message = Generate.model_validate_json(sent.model_dump_json())
    frame = decode_to_worker(encode(frame_of(message))[HEADER_BYTES:])

    assert isinstance(frame, GenerateTokens)
    assert engine_request(frame).sampling == ALL_CHANGED
    defaults = SamplingParameters(max_tokens=4, seed=9)
    same = [
        field.name
        for field in fields(SamplingParameters)
        if getattr(ALL_CHANGED, field.name) == getattr(defaults, field.name)
    ]
    assert same == [], "the table above changes every parameter"


def test_what_is_left_out_means_the_same_to_message_frame_and_engine() -> None:
    plain = SamplingParameters(max_tokens=4, seed=9)

    assert engine_request(frame_of(generate(sampling=plain))).sampling == plain


def test_what_earlier_attempts_generated_stays_apart_from_the_prompt() -> None:
    message = generate(attempt=2, prompt_ids=(1, 2), generated_ids=(3, 4, 5))

    request = engine_request(frame_of(message))

    assert (request.prompt_ids, request.generated_ids) == ((1, 2), (3, 4, 5))
