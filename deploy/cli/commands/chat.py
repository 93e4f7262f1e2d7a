"""`hydraserve chat`: one answer, or a conversation."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.status import Status

from deploy.cli.client import Client
from deploy.cli.commands.conversation import Conversation
from deploy.cli.commands.options import NameArgument
from deploy.cli.errors import CliError, Refused
from deploy.cli.output.terminal import Terminal
from deploy.cli.session import connect
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
        chat_client = ChatClient(client, terminal, model, Sampling(max_tokens, temperature, seed))
        conversation = Conversation.begin(system)
        if prompt is None:
            converse(chat_client, terminal, conversation)
        else:
            answer_once(chat_client, terminal, conversation.asked(prompt))


@dataclass
class ChatClient:
    """Asks a model and writes its answer; `answer` has what came of it, also when it broke off."""

    client: Client
    terminal: Terminal
    model: str
    sampling: Sampling
    answer: str = ""

    def ask(self, conversation: Conversation) -> None:
        """Writes the answer as it comes. Raises CliError, KeyboardInterrupt."""
        self.answer = ""
        body = {"model": self.model, "messages": conversation.body(), "stream": True}
        with wait_indicator(self.terminal) as indicator:
            stream = self.client.stream("/v1/chat/completions", body | self.sampling.body())
            with stream as lines:
                for event in _events(lines):
                    self._take(event, indicator)

    def _take(self, event: StreamEvent, indicator: "WaitIndicator") -> None:
        if event.text:
            indicator.end()
            self.answer += event.text
            self.terminal.write(event.text)
        elif event.progress and not self.answer:
            indicator.update(event.progress)


def answer_once(chat_client: ChatClient, terminal: Terminal, conversation: Conversation) -> None:
    try:
        chat_client.ask(conversation)
    finally:
        if chat_client.answer:
            terminal.write("\n")


def converse(chat_client: ChatClient, terminal: Terminal, conversation: Conversation) -> None:
    """Until Ctrl-D. What goes wrong with one answer ends that answer only."""
    import readline  # noqa: F401  # gives `input` its line editing and history

    terminal.note(f"{chat_client.model}: Ctrl-C ends an answer, Ctrl-D the conversation")
    while (question := _read_question()) is not None:
        if not question.strip():
            continue
        conversation = conversation.asked(question)
        try:
            chat_client.ask(conversation)
        except KeyboardInterrupt:
            terminal.note(" (cancelled)")
        except CliError as error:
            terminal.complain(str(error))
        terminal.write("\n")
        conversation = conversation.answered(chat_client.answer)
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


class WaitIndicator:
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
def wait_indicator(terminal: Terminal) -> Iterator[WaitIndicator]:
    if not terminal.err.is_terminal:
        yield WaitIndicator(terminal, None)
        return
    with terminal.err.status("[dim]asking[/dim]") as spinner:
        yield WaitIndicator(terminal, spinner)
