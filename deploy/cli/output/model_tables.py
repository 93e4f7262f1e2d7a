"""Models as rows and as a page."""

from collections.abc import Sequence

from rich.table import Table

from deploy.cli.output.formatting import one_line, size
from deploy.cli.output.usage_tables import usage_words
from deploy.cli.views import Model


def model_rows(models: Sequence[Model]) -> list[tuple[str, ...]]:
    return [
        (
            model.name,
            _state(model),
            size(model.weight_bytes),
            "-" if model.num_layers is None else str(model.num_layers),
            model.dtype or "-",
            one_line(model.cause),
        )
        for model in models
    ]


def model_details(model: Model) -> Table:
    limit, kv_cache = model.max_context_tokens, model.kv_cache_bytes
    details = {
        "name": model.name,
        "state": _state(model),
        "cause": model.cause,
        "source": model.source,
        "architecture": model.architecture,
        "weights": f"{size(model.weight_bytes)}, {model.dtype}, {model.num_layers} layers"
        if model.weight_bytes is not None
        else None,
        "targets": f"first token {model.slo.ttft_ms} ms, each one after {model.slo.tpot_ms} ms",
        "keep-alive": _keep_alive(model),
        "pipeline": _pipeline(model),
        "requests": f"{model.max_slots} at once per endpoint, {model.max_queue} waiting",
        "endpoints": f"at least {model.min_endpoints}, at most {model.max_endpoints}",
        "context": "as the checkpoint says" if limit is None else f"{limit} tokens",
        "KV cache": "by slots and context" if kv_cache is None else size(kv_cache),
        "engine": model.engine,
        "chat template": _template(model),
        "last hour": None if model.usage is None else usage_words(model.usage.last_hour),
        "last day": None if model.usage is None else usage_words(model.usage.last_day),
        "prefetched": _prefetched(model),
        "registered": model.created_at.isoformat(timespec="seconds"),
    }
    table = Table.grid(padding=(0, 2))
    for label, value in details.items():
        if value is not None:
            table.add_row(label, value)
    return table


def _pipeline(model: Model) -> str:
    least, most = model.min_pipeline_size, model.max_pipeline_size
    stages = f"at most {most} stages" if least == 1 else f"{least} to {most} stages"
    full = model.full_memory_workers
    return stages if full is None else f"{stages}, {full} with memory for the whole model"


def _keep_alive(model: Model) -> str:
    kept_s = model.keep_alive_s
    return "by its own requests" if kept_s == "auto" else f"{kept_s:g} s"


def _prefetched(model: Model) -> str | None:
    """The last one."""
    if not model.prefetches:
        return None
    last = model.prefetches[0]
    return f"{size(last.file_bytes)} on {last.node_id}, {last.state}"


def _template(model: Model) -> str:
    digest = model.chat_template_digest
    return "as the checkpoint has it" if digest is None else f"given (BLAKE3 {digest[:12]}…)"


def _state(model: Model) -> str:
    if model.state == "IMPORTING" and model.bytes_total:
        return f"IMPORTING {100 * model.bytes_done // model.bytes_total} %"
    return model.state
