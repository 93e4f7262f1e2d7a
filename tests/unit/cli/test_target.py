"""Which server, and which key it gets."""

from pathlib import Path

import pytest

from deploy.cli.errors import NotAuthorized, NotConnected
from deploy.cli.target import find_target
from deploy.local.state.state_folder import StateFolder

LOCAL = "http://127.0.0.1:8000"
OTHER = "https://hydra.example"


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """Of a stack that runs."""
    folder = StateFolder(tmp_path)
    folder.gateway_url.write_text(f"{LOCAL}\n")
    folder.credentials.mkdir()
    folder.api_key.write_text("local-key\n")
    return folder


@pytest.mark.parametrize(
    ("url", "api_key", "expected"),
    [
        (None, None, (LOCAL, "local-key")),  # the stack that runs here
        (None, "mine", (LOCAL, "mine")),
        (f"{LOCAL}/", None, (LOCAL, "local-key")),  # the same one, named
        (OTHER, "mine", (OTHER, "mine")),
        (f"{LOCAL}/v1", None, (LOCAL, "local-key")),  # as it is printed for OpenAI's clients
        (f"{OTHER}/v1/", "mine", (OTHER, "mine")),
    ],
)
def test_what_is_given_wins_over_the_local_stack(
    state: StateFolder, url: str | None, api_key: str | None, expected: tuple[str, str]
) -> None:
    target = find_target(url, api_key, state)

    assert (target.url, target.api_key) == expected


def test_the_local_key_is_sent_to_no_other_server(state: StateFolder) -> None:
    with pytest.raises(NotAuthorized, match="HYDRASERVE_API_KEY"):
        find_target(OTHER, None, state)


def test_without_a_server_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotConnected, match="hydraserve up"):
        find_target(None, "mine", StateFolder(tmp_path))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "x"])
def test_a_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(NotConnected, match="http://host:port"):
        find_target(url, "mine", StateFolder(tmp_path))


def test_a_key_is_in_no_message(state: StateFolder) -> None:
    assert "local-key" not in repr(find_target(None, None, state))
