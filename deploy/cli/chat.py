"""`hydraserve chat`: one answer, or a conversation."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.status import Status

from deploy.cli.client import Client
from deploy.cli.conversation import Conversation
from deploy.cli.errors import CliError, Refused
from deploy.cli.options import NameArgument
from deploy.cli.session import connect
from deploy.cli.terminal import Terminal
from deploy.local.errors import ApiError
from deploy.local.report.api_types import StreamEvent

_PROMPT = ">>> "

PromptArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[PROMPT]", help="The question; '-' or a pipe: from stdin; none: a conversation."
    ),
]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; None is the server's default."""

    max_tokens: int | None
    temperature: float | None
    seed: int | None

    def body(self) -> dict[str, object]:
        return {key: value for key, value in vars(self).items() if value is not None}


def chat(
    context: typer.Context,
    model: NameArgument,
    prompt: PromptArgument = None,
    system: Annotated[str | None, typer.Option(help="What the model shall be.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of one answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0: always the likeliest.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same answer again.")] = None,
) -> None:
    """Ask a model. The answer goes to stdout as it comes, a cold start's progress to stderr.

    In a conversation Ctrl-C ends the answer, Ctrl-D the conversation.
    """
    terminal = Terminal()
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = sys.stdin.read()
    with connect(context) as client:
        talk = Talk(client, terminal, model, Sampling(max_tokens, temperature, seed))
        conversation = Conversation.begin(system)
        if prompt is None:
            converse(talk, terminal, conversation)
        else:
            answer_once(talk, terminal, conversation.asked(prompt))


@dataclass
class Talk:
    """Asks; `heard` is what has come of the answer, also when it broke off."""

    client: Client
    terminal: Terminal
    model: str
    sampling: Sampling
    heard: str = ""

    def ask(self, conversation: Conversation) -> None:
        """Writes the answer as it comes. Raises CliError, KeyboardInterrupt."""
        self.heard = ""
        body = {"model": self.model, "messages": conversation.body(), "stream": True}
        with waiting(self.terminal) as wait:
            stream = self.client.stream("/v1/chat/completions", body | self.sampling.body())
            with stream as lines:
                for event in _events(lines):
                    self._take(event, wait)

    def _take(self, event: StreamEvent, wait: "Wait") -> None:
        if event.text:
            wait.end()
            self.heard += event.text
            self.terminal.write(event.text)
        elif event.progress and not self.heard:
            wait.update(event.progress)


def answer_once(talk: Talk, terminal: Terminal, conversation: Conversation) -> None:
    try:
        talk.ask(conversation)
    finally:
        if talk.heard:
            terminal.write("\n")


def converse(talk: Talk, terminal: Terminal, conversation: Conversation) -> None:
    """Until Ctrl-D. What goes wrong with one answer ends that answer only."""
    import readline  # noqa: F401  # gives `input` its line editing and history

    terminal.note(f"{talk.model}: Ctrl-C ends an answer, Ctrl-D the conversation")
    while (question := _read_question()) is not None:
        if not question.strip():
            continue
        conversation = conversation.asked(question)
        try:
            talk.ask(conversation)
        except KeyboardInterrupt:
            terminal.note(" (cancelled)")
        except CliError as error:
            terminal.complain(str(error))
        terminal.write("\n")
        conversation = conversation.answered(talk.heard)
    terminal.write("\n")


def _read_question() -> str | None:
    """None at the end of the input; Ctrl-C drops the line."""
    while True:
        try:
            return input(_PROMPT)
        except EOFError:
            return None
        except KeyboardInterrupt:
            print()


def _events(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """Raises Refused where the server ends the stream with an error."""
    try:
        for line in lines:
            if (event := StreamEvent.parse(line)) is not None:
                yield event
    except ApiError as exc:
        raise Refused(str(exc)) from exc


class Wait:
    """What a waiting person sees: a spinner with words; in a pipe, lines."""

    def __init__(self, terminal: Terminal, spinner: Status | None) -> None:
        self._terminal, self._spinner, self._words = terminal, spinner, ""

    def update(self, words: str) -> None:
        if self._spinner is not None:
            self._spinner.update(f"[dim]{words}[/dim]")
        elif words != self._words:
            self._terminal.note(words)
        self._words = words

    def end(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()


@contextmanager
def waiting(terminal: Terminal) -> Iterator[Wait]:
    if not terminal.err.is_terminal:
        yield Wait(terminal, None)
        return
    with terminal.err.status("[dim]asking[/dim]") as spinner:
        yield Wait(terminal, spinner)
