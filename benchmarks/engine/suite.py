"""What is measured, in which order, and what the figures are called."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers

from benchmarks.engine import measures, vllmengine
from benchmarks.engine.model import DemoModel
from benchmarks.engine.pipeline import pipeline
from benchmarks.hop import echoing, hop_times_s
from benchmarks.report import Bars, draw_bars, print_summary, write_report
from deploy.local.demo_model import ensure_demo_model
from deploy.local.state.state_folder import StateFolder
from services.worker.frames.dataplane import Security

PACKAGES = ("torch", "transformers", "pyzmq", "numpy")
BATCHES = (1, 4, 16)
STAGES = (2, 4)
NUM_HOPS = 300
BUDGET_S = {"whole": 130.0, "pipelines": 50.0}  # no round begins later
KINDS = {"": True, "unpacked_": False}  # of engines: a prefix, whether weights are packed
VLLM = "vllm_"  # the prefix of another one

Samples = dict[str, list[float]]  # by figure, in seconds


def main(num_rounds: int) -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        model, num_threads = _load(Path(folder)), len(os.sched_getaffinity(0))
        torch.set_num_threads(num_threads)
        with vllmengine.started(model.checkpoint, num_threads) as vllm:
            measured = _run(_whole(model) | _vllm(vllm), num_rounds, BUDGET_S["whole"])
        torch.set_num_threads(1)
        measured |= _run(_pipelines(model, Path(folder), stack), num_rounds, BUDGET_S["pipelines"])
    summary = summarize(measured)
    print_summary(summary)
    seeds = "the n-th prompt of a batch: n"
    write_report(
        "engine",
        summary=summary,
        samples={f"{name}_s": values for name, values in measured.items()},
        seeds=seeds,
        packages=PACKAGES,
        num_threads=len(os.sched_getaffinity(0)),
    )
    draw_bars("engine", pictures(summary))


def _load(folder: Path) -> DemoModel:
    state = StateFolder(Path(os.environ.get("HYDRASERVE_STATE", ".hydraserve")))
    gguf = ensure_demo_model(state.sources)
    model = DemoModel.load(gguf, state.sources.parent / "references", folder)
    torch.save({"config": model.config, "state": model.state}, folder / "model.pt")
    return model


def _run(figures: Mapping[str, Callable[[], float]], num_rounds: int, budget_s: float) -> Samples:
    """Every figure once in each round; the first round warms up and counts only if it is all."""
    samples: Samples = {name: [] for name in figures}
    deadline_s = time.monotonic() + budget_s
    for _ in range(num_rounds + 1):
        for name, measure in figures.items():
            samples[name].append(measure())
            print(f"  {name:24} {1e3 * samples[name][-1]:9.2f} ms", flush=True)
        if time.monotonic() > deadline_s:
            break
    return {name: values[1:] or values for name, values in samples.items()}


def _whole(model: DemoModel) -> dict[str, Callable[[], float]]:
    """The whole model in one process, all cores."""
    figures: dict[str, Callable[[], float]] = {
        "transformers_token_b1": lambda: measures.reference_interval_s(model.reference)
    }
    engines = {prefix: model.engine(is_packed=packed) for prefix, packed in KINDS.items()}
    for prefix, engine in engines.items():
        for batch in BATCHES:
            figures[f"{prefix}step_b{batch}"] = lambda engine=engine, batch=batch: (
                measures.decode_step_s(engine, batch)
            )
        figures[f"{prefix}prefill"] = lambda engine=engine: measures.prefill_s(engine)
    for batch in (1, 16):
        figures[f"overhead_b{batch}"] = lambda batch=batch: measures.step_overhead_s(
            engines[""], batch
        )
        figures[f"scheduling_b{batch}"] = lambda batch=batch: measures.scheduling_s(
            engines[""], batch
        )
    return figures


def _vllm(vllm: vllmengine.Vllm | None) -> dict[str, Callable[[], float]]:
    """Its decode and prefill; nothing where it is not installed."""
    if vllm is None:
        return {}
    steps = {f"vllm_step_b{batch}": partial(vllm.decode_step_s, batch) for batch in BATCHES}
    return {**steps, "vllm_prefill": vllm.prefill_s}


def _pipelines(model: DemoModel, folder: Path, stack: ExitStack) -> dict[str, Callable[[], float]]:
    """One thread per stage, also where there is one stage only; hops by themselves."""
    whole = model.engine(is_packed=True)
    figures: dict[str, Callable[[], float]] = {"tpot_s1": lambda: measures.token_interval_s(whole)}
    for security in Security:
        for num_stages in STAGES:
            engine = stack.enter_context(pipeline(model, folder / "model.pt", num_stages, security))
            figures[f"tpot_s{num_stages}_{security}"] = lambda engine=engine: (
                measures.token_interval_s(engine)
            )
        plane = stack.enter_context(echoing(security))
        figures[f"hop_{security}"] = lambda plane=plane: median(hop_times_s(plane, 1, NUM_HOPS))
    return figures


def summarize(samples: Samples) -> dict[str, object]:
    """Medians, as rates where rates are what people compare; None: not measured."""
    middle = {name: median(values) for name, values in samples.items()}
    summary: dict[str, object] = {}
    for prefix in (*KINDS, VLLM):
        for batch in BATCHES:
            summary[f"{prefix}decode_tok_s_b{batch}"] = _rate(
                middle, f"{prefix}step_b{batch}", batch
            )
        num_tokens = measures.PREFILL_TOKENS
        summary[f"{prefix}prefill_tok_s"] = _rate(middle, f"{prefix}prefill", num_tokens)
    theirs, ours = middle["transformers_token_b1"], middle["step_b1"]
    summary |= {
        "transformers_decode_tok_s_b1": 1 / theirs,
        "ratio_b1_vs_transformers": theirs / ours,
        "unpacked_ratio_b1_vs_transformers": theirs / middle["unpacked_step_b1"],
        "ratio_b16_vs_b1": 16 * ours / middle["step_b16"],
        "step_overhead_ms": 1e3 * middle["overhead_b1"],
        "step_overhead_ms_b16": 1e3 * middle["overhead_b16"],
        "scheduling_ms_b1": 1e3 * middle["scheduling_b1"],
        "scheduling_ms_b16": 1e3 * middle["scheduling_b16"],
        "tpot_ms_s1": 1e3 * middle["tpot_s1"],
    }
    return summary | dict(_pipeline_tax(middle))


def _rate(middle: Mapping[str, float], name: str, num_tokens: int) -> float | None:
    return num_tokens / middle[name] if name in middle else None


def _pipeline_tax(middle: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for security in Security:
        yield f"hop_ms_{security}", 1e3 * middle[f"hop_{security}"]
        for num_stages in STAGES:
            tpot = middle[f"tpot_s{num_stages}_{security}"]
            yield f"tpot_ms_s{num_stages}_{security}", 1e3 * tpot
            yield f"tax_s{num_stages}_{security}", tpot / middle["tpot_s1"] - 1


def pictures(summary: Mapping[str, Any]) -> list[Bars]:
    def rates(prefix: str) -> list[float | None]:
        return [summary[f"{prefix}decode_tok_s_b{batch}"] for batch in BATCHES]  # type: ignore[misc]

    theirs = [summary["transformers_decode_tok_s_b1"], None, None]
    ours = {"packed": rates(""), "zero-copy": rates("unpacked_")}
    decode: dict[str, Sequence[float | None]] = {
        **ours,
        "vLLM": rates(VLLM),
        "transformers": theirs,
    }
    stages = [1, *STAGES]
    tpot: dict[str, Sequence[float | None]] = {
        str(security): [
            summary["tpot_ms_s1" if n == 1 else f"tpot_ms_s{n}_{security}"] for n in stages
        ]
        for security in Security
    }
    return [
        Bars("decode, by sequences together", "tokens/s", [str(b) for b in BATCHES], decode),
        Bars("between two tokens, by stages", "ms", [str(n) for n in stages], tpot),
    ]
