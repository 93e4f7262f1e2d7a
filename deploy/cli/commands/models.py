"""`hydraserve models`: register, list, show, change and remove models."""

import time
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.client import Client, Reply, model_path
from deploy.cli.commands.model_options import (
    ContextOption,
    EndpointsOption,
    EngineOption,
    FullWorkersOption,
    KeepAliveOption,
    KvCacheOption,
    MinEndpointsOption,
    MinPipelineOption,
    PipelineOption,
    QueueOption,
    SlotsOption,
    TemplateOption,
    TpotOption,
    TtftOption,
    given,
    template_text,
)
from deploy.cli.commands.options import JsonOption, NameArgument
from deploy.cli.errors import Refused, TryLater
from deploy.cli.output.formatting import size
from deploy.cli.output.model_tables import model_details, model_rows
from deploy.cli.output.terminal import ProgressLine, Terminal, listing
from deploy.cli.session import connect
from deploy.cli.views import Model

app = typer.Typer(help="Register, list, show, change and remove models.")
_POLL_PERIOD_S = 0.3

SourceArgument = Annotated[
    Path, typer.Argument(help="Folder of safetensors or a .gguf file, as the fetchers see it.")
]


@app.command("add")
def add(
    context: typer.Context,
    name: NameArgument,
    source: SourceArgument,
    ttft_ms: TtftOption = None,
    tpot_ms: TpotOption = None,
    keep_alive_s: KeepAliveOption = None,
    min_pipeline_size: MinPipelineOption = None,
    max_pipeline_size: PipelineOption = None,
    full_memory_workers: FullWorkersOption = None,
    max_queue: QueueOption = None,
    max_slots: SlotsOption = None,
    max_endpoints: EndpointsOption = None,
    min_endpoints: MinEndpointsOption = None,
    max_context_tokens: ContextOption = None,
    kv_cache_bytes: KvCacheOption = None,
    engine: EngineOption = None,
    chat_template: TemplateOption = None,
    public: Annotated[
        bool, typer.Option("--public", help="Share equal weights with other tenants.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is imported.")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait.")] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Register a model and wait until its weights are imported."""
    settings = given(
        {
            "ttft_ms": ttft_ms,
            "tpot_ms": tpot_ms,
            "keep_alive_s": keep_alive_s,
            "min_pipeline_size": min_pipeline_size,
            "max_pipeline_size": max_pipeline_size,
            "full_memory_workers": full_memory_workers,
            "max_queue": max_queue,
            "max_slots": max_slots,
            "max_endpoints": max_endpoints,
            "min_endpoints": min_endpoints,
            "max_context_tokens": max_context_tokens,
            "kv_cache_bytes": kv_cache_bytes,
            "engine": engine,
            "chat_template": template_text(chat_template),
            "public": public or None,
        }
    )
    body = {"name": name, "source": str(source.absolute()), **settings}
    terminal = Terminal()
    with connect(context) as client:
        reply = client.post("/api/v1/models", body)
        if wait:
            reply = _follow(client, terminal, name, timeout_s)
    if as_json:
        terminal.show_json(reply.content)
    else:
        terminal.show(_sentence(reply.view(Model)))


@app.command("ls")
def ls(context: typer.Context, as_json: JsonOption = False) -> None:
    """All models with their states."""
    terminal = Terminal()
    with connect(context) as client:
        reply = client.get_list("/api/v1/models")
    if as_json:
        terminal.show_json(reply.content)
        return
    models = reply.view(list[Model])
    if not models:
        terminal.note("no models yet; add one with 'hydraserve models add NAME SOURCE'")
        return
    headings = ("NAME", "STATE", "WEIGHTS", "LAYERS", "TYPE", "CAUSE")
    terminal.show(listing(headings, model_rows(models)))


@app.command("show")
def show(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """One model with all its settings."""
    terminal = Terminal()
    with connect(context) as client:
        reply = client.get(model_path(name))
    if as_json:
        terminal.show_json(reply.content)
    else:
        terminal.show(model_details(reply.view(Model)))


@app.command("set")
def change(
    context: typer.Context,
    name: NameArgument,
    ttft_ms: TtftOption = None,
    tpot_ms: TpotOption = None,
    keep_alive_s: KeepAliveOption = None,
    min_pipeline_size: MinPipelineOption = None,
    max_pipeline_size: PipelineOption = None,
    full_memory_workers: FullWorkersOption = None,
    max_queue: QueueOption = None,
    max_slots: SlotsOption = None,
    max_endpoints: EndpointsOption = None,
    min_endpoints: MinEndpointsOption = None,
    max_context_tokens: ContextOption = None,
    kv_cache_bytes: KvCacheOption = None,
    engine: EngineOption = None,
    chat_template: TemplateOption = None,
    default_full_memory_workers: Annotated[
        bool, typer.Option("--default-full-memory-workers", help="As the planner decides.")
    ] = False,
    default_context: Annotated[
        bool, typer.Option("--default-context", help="The context as the checkpoint has it.")
    ] = False,
    default_kv_cache: Annotated[
        bool, typer.Option("--default-kv-cache", help="The KV cache by slots and context.")
    ] = False,
    default_chat_template: Annotated[
        bool, typer.Option("--default-chat-template", help="The one that the checkpoint has.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Change settings of a model: for endpoints that start from now on, and its queue at once."""
    settings = given(
        {
            "ttft_ms": ttft_ms,
            "tpot_ms": tpot_ms,
            "keep_alive_s": keep_alive_s,
            "min_pipeline_size": min_pipeline_size,
            "max_pipeline_size": max_pipeline_size,
            "full_memory_workers": full_memory_workers,
            "max_queue": max_queue,
            "max_slots": max_slots,
            "max_endpoints": max_endpoints,
            "min_endpoints": min_endpoints,
            "max_context_tokens": max_context_tokens,
            "kv_cache_bytes": kv_cache_bytes,
            "engine": engine,
            "chat_template": template_text(chat_template),
        }
    )
    settings |= {"full_memory_workers": None} if default_full_memory_workers else {}
    settings |= {"max_context_tokens": None} if default_context else {}
    settings |= {"kv_cache_bytes": None} if default_kv_cache else {}
    settings |= {"chat_template": None} if default_chat_template else {}
    if not settings:
        raise typer.BadParameter("there is nothing to change", ctx=context)
    terminal = Terminal()
    with connect(context) as client:
        reply = client.patch(model_path(name), settings)
    if as_json:
        terminal.show_json(reply.content)
    else:
        terminal.show(model_details(reply.view(Model)))


@app.command("rm")
def rm(context: typer.Context, name: NameArgument) -> None:
    """Remove a model. What it runs is ended; its name is free at once."""
    terminal = Terminal()
    with connect(context) as client:
        client.delete(model_path(name))
    terminal.show(f"{name} is removed")


def _follow(client: Client, terminal: Terminal, name: str, timeout_s: float) -> Reply:
    """Its import, on a bar, to the end. Raises Refused when it fails, TryLater at the timeout."""
    try:
        with terminal.progress() as line:
            return _poll(client, line, name, time.monotonic() + timeout_s)
    except KeyboardInterrupt:
        terminal.note(f"the import goes on; see 'hydraserve models show {name}'")
        raise


def _poll(client: Client, line: ProgressLine, name: str, deadline_s: float) -> Reply:
    while True:
        reply = client.get(model_path(name))
        model = reply.view(Model)
        line.update(f"{name} {model.state}", model.bytes_done, model.bytes_total)
        if model.state == "READY":
            return reply
        if model.state == "FAILED":
            advice = f"'hydraserve models rm {name}', then add it again"
            raise Refused(f"the import of {name} failed: {model.cause}; {advice}")
        if time.monotonic() > deadline_s:
            advice = f"see 'hydraserve models show {name}'"
            raise TryLater(f"{name} is still {model.state}; the import goes on: {advice}")
        time.sleep(_POLL_PERIOD_S)


def _sentence(model: Model) -> str:
    if model.state != "READY":
        return f"{model.name} is {model.state}; follow it with 'hydraserve models show'"
    layers = f"{model.num_layers} layers"
    return f"{model.name} is READY: {size(model.weight_bytes)}, {layers}, {model.dtype}"
