"""A model's settings as options of `models add` and `models set`, and as the API names them."""

from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from libs.common.settings import parse_size_bytes
from libs.common.states import EngineChoice


def _size(text: str) -> int:
    try:
        return parse_size_bytes(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is no size such as 512Mi or 2G") from exc


def _keep_alive(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        seconds = float(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is neither a number of seconds nor auto") from exc
    if not isfinite(seconds):
        raise typer.BadParameter(f"{text!r} is neither a number of seconds nor auto")
    return seconds


TtftOption = Annotated[int | None, typer.Option("--ttft-ms", help="Target: to the first token.")]
TpotOption = Annotated[int | None, typer.Option("--tpot-ms", help="Target: per token after it.")]
KeepAliveOption = Annotated[
    str | None,
    typer.Option(
        "--keep-alive",
        parser=_keep_alive,
        metavar="SECONDS|auto",
        help="How long idle until it is stopped; auto: as its own requests show.",
    ),
]
MinPipelineOption = Annotated[
    int | None, typer.Option("--min-pipeline-size", help="Fewest stages, where there are nodes.")
]
PipelineOption = Annotated[int | None, typer.Option("--max-pipeline-size", help="Most stages.")]
FullWorkersOption = Annotated[
    int | None,
    typer.Option(
        "--full-memory-workers",
        help="Of a pipeline, with memory for the whole model; otherwise as planned.",
    ),
]
QueueOption = Annotated[int | None, typer.Option("--max-queue", help="Most waiting requests.")]
SlotsOption = Annotated[
    int | None, typer.Option("--max-slots", help="Requests at once, per endpoint.")
]
MinEndpointsOption = Annotated[
    int | None, typer.Option("--min-endpoints", help="Kept whoever asks; operators only.")
]
EndpointsOption = Annotated[int | None, typer.Option("--max-endpoints", help="Most endpoints.")]
ContextOption = Annotated[
    int | None, typer.Option("--max-context-tokens", help="Less than it could.")
]
KvCacheOption = Annotated[
    int | None,
    typer.Option(
        "--kv-cache-bytes",
        parser=_size,
        metavar="SIZE",
        help="Of one endpoint, such as 512Mi; otherwise by slots and context.",
    ),
]

EngineOption = Annotated[
    EngineChoice | None, typer.Option("--engine", help="What runs it; otherwise the fastest.")
]

TemplateOption = Annotated[
    Path | None,
    typer.Option(
        "--chat-template",
        exists=True,
        dir_okay=False,
        readable=True,
        help="File with a chat template (Jinja); otherwise the checkpoint's.",
    ),
]


def template_text(path: Path | None) -> str | None:
    """Raises BadParameter."""
    try:
        return None if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise typer.BadParameter(f"{path} cannot be read as text") from exc


def given(settings: dict[str, object]) -> dict[str, object]:
    """Without what was left to the server; both targets under `slo`."""
    present = {key: value for key, value in settings.items() if value is not None}
    targets = {key: present.pop(key) for key in ("ttft_ms", "tpot_ms") if key in present}
    return present | ({"slo": targets} if targets else {})
