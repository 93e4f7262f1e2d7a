"""Answers to ZAP's request, without a socket."""

import pytest

from services.worker.frames.dataplane import KeyPair, Neighbour, Security
from services.worker.runtime.dataplane.admission import DOMAIN, MAX_WAITING, Admission

OWN = KeyPair("o" * 40, "secret")
PREVIOUS = Neighbour(1, "tcp://127.0.0.1:1", "p" * 40)


def raw(key: str) -> bytes:
    return key.encode()[:32]


def request(mechanism: bytes, *credentials: bytes, domain: bytes = DOMAIN) -> list[bytes]:
    return [b"route", b"", b"1.0", b"7", domain, b"127.0.0.1", b"", mechanism, *credentials]


def code(answer: list[bytes]) -> bytes:
    route, empty, version, request_id, status, *_ = answer
    assert (route, empty, version, request_id) == (b"route", b"", b"1.0", b"7")
    return status


QUESTIONS = (
    (Security.CURVE, request(b"CURVE", b"p" * 32), b"200", "the previous stage"),
    (Security.CURVE, request(b"CURVE", b"x" * 32), b"400", "a fresh key"),
    (Security.CURVE, request(b"NULL"), b"400", "no key"),
    (Security.CURVE, request(b"PLAIN", b"p" * 40, b"o" * 40), b"400", "no proof of the key"),
    (Security.CURVE, request(b"CURVE", b"p" * 32, domain=b"x"), b"400", "another domain"),
    (Security.TRUSTED, request(b"PLAIN", b"p" * 40, b"o" * 40), b"200", "the previous stage"),
    (Security.TRUSTED, request(b"PLAIN", b"x" * 40, b"o" * 40), b"400", "another name"),
    (Security.TRUSTED, request(b"PLAIN", b"p" * 40, b"x" * 40), b"400", "meant for another"),
    (Security.TRUSTED, request(b"NULL"), b"400", "no name"),
)


@pytest.mark.parametrize(
    ("security", "asked", "expected", "case"), QUESTIONS, ids=[f"{q[0]}-{q[3]}" for q in QUESTIONS]
)
def test_only_the_previous_stage_is_let_in(
    security: Security, asked: list[bytes], expected: bytes, case: str
) -> None:
    admission = Admission(security, OWN, raw)
    admission.open_to(PREVIOUS)

    (answer,) = admission.take(asked)

    assert code(answer) == expected


def test_who_comes_before_the_neighbours_are_known_is_answered_then() -> None:
    admission = Admission(Security.CURVE, OWN, raw)
    assert admission.take(request(b"CURVE", b"x" * 32)) == []
    assert admission.take(request(b"CURVE", b"p" * 32)) == []

    answers = admission.open_to(PREVIOUS)

    assert [code(answer) for answer in answers] == [b"400", b"200"]


def test_strangers_who_come_early_take_no_room_without_end() -> None:
    admission = Admission(Security.CURVE, OWN, raw)
    for _ in range(MAX_WAITING):
        assert admission.take(request(b"CURVE", b"x" * 32)) == []

    answers = admission.take(request(b"CURVE", b"p" * 32))

    assert [code(answer) for answer in answers] == [b"300"]
    assert len(admission.open_to(PREVIOUS)) == MAX_WAITING
