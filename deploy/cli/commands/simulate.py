"""`hydraserve simulate`: what the scheduler would do, on virtual time."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deploy.cli.errors import Refused
from deploy.cli.output.terminal import Terminal, listing
from libs.common.startmode import StartMode

if TYPE_CHECKING:  # numpy, which other commands do without
    from services.scheduler.simulation.results.report import Run
    from services.scheduler.simulation.runner import Batch, OnProgress
    from services.scheduler.simulation.scenario.overrides import Override

_SCENARIO_HELP = "A toml file, or the name of a built-in scenario: nsdi26-e2e, scale."
_POLICY_HELP = f"One or more of {', '.join(StartMode)}, with commas."
_SET_HELP = "KEY=VALUE: another value than the file has, e.g. rate_per_s=0.8. May be given again."
_CONSTANTS_HELP = "Which set of the file's constants, e.g. published or measured."
_TRACE_HELP = "Requests from this file, and not drawn."
_FORMAT_HELP = "csv (arrived_at,model,prompt_tokens,output_tokens) or azure (public LLM traces)."
_STEPS = 1000  # of the bar


def simulate(
    scenario: Annotated[str, typer.Argument(help=_SCENARIO_HELP)],
    policy: Annotated[str, typer.Option(help=_POLICY_HELP)] = StartMode.HYDRA.value,
    seeds: Annotated[int, typer.Option(help="How many runs of each policy.", min=1)] = 1,
    first_seed: Annotated[int, typer.Option(help="Of the first run.", min=0)] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help=_SET_HELP)] = None,
    constants: Annotated[str | None, typer.Option(help=_CONSTANTS_HELP)] = None,
    trace: Annotated[Path | None, typer.Option(help=_TRACE_HELP)] = None,
    trace_format: Annotated[str, typer.Option(help=_FORMAT_HELP)] = "csv",
    out: Annotated[Path | None, typer.Option(help="Write all figures there, as JSON.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw there: .svg, .png, .pdf.")] = None,
) -> None:
    """Run a scenario through the scheduler's own decisions, on a virtual clock."""
    try:
        from services.scheduler.simulation.errors import SimulationError
        from services.scheduler.simulation.results.picture import check_picture, draw
        from services.scheduler.simulation.results.report import document, write_json
        from services.scheduler.simulation.runner import Batch
        from services.scheduler.simulation.scenario.scenario import load
    except ImportError as exc:
        raise Refused(f"{exc.name} is missing: install hydraserve[scheduler]") from exc
    modes, terminal = _modes(policy), Terminal()
    try:
        if picture is not None:
            check_picture(picture)
        for written in (out, picture):
            _prepare(written)
        loaded = load(scenario, _overrides(set_ or [], trace, trace_format), constants)
        batch = Batch(loaded, modes, range(first_seed, first_seed + seeds))
        runs = _run(batch, terminal)
        if out is not None:
            write_json(out, document(loaded, runs))
        if picture is not None:
            draw(picture, loaded, runs)
    except (SimulationError, OSError) as exc:
        raise Refused(str(exc)) from exc
    terminal.show(listing(_HEADINGS, [_row(run) for run in runs]))
    for written in (out, picture):
        if written is not None:
            terminal.note(f"written: {written}")


def _prepare(written: Path | None) -> None:
    """Before the simulation, whose figures would be lost. Raises OSError."""
    if written is None:
        return
    written.parent.mkdir(parents=True, exist_ok=True)
    if written.is_dir() or not os.access(written.parent, os.W_OK):
        raise Refused(f"{written}: cannot be written; name a file in a folder that can be")


def _modes(text: str) -> list[StartMode]:
    """Each once: the same run twice would count as two seeds."""
    try:
        return list(dict.fromkeys(StartMode(name.strip()) for name in text.split(",")))
    except ValueError as exc:
        known = ", ".join(StartMode)
        raise typer.BadParameter(f"{exc}: expected some of {known}, with commas") from exc


def _overrides(texts: Sequence[str], trace: Path | None, format_: str) -> "list[Override]":
    from services.scheduler.simulation.scenario.overrides import Override

    found = [Override.of(text) for text in texts]
    if trace is not None:
        own = {"path": str(trace), "format": format_}
        found.append(Override("traffic.trace", own, is_new=True))
    return found


def _run(batch: "Batch", terminal: Terminal) -> "list[Run]":
    with _bar(terminal) as on_progress:
        return batch.run(on_progress)


@contextmanager
def _bar(terminal: Terminal) -> "Iterator[OnProgress]":
    """For people; in a pipe there is none."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=terminal.err, transient=True, disable=not terminal.err.is_terminal
    ) as bar:
        task, shown = bar.add_task("", total=_STEPS), -1

        def on_progress(words: str, part: float) -> None:
            nonlocal shown
            if int(part * _STEPS) != shown:
                shown = int(part * _STEPS)
                bar.update(task, description=words, completed=shown)

        yield on_progress


_HEADINGS = (
    *("POLICY", "SEED", "REQUESTS", "STARTS", "TTFT MET", "TPOT MET", "TTFT MEDIAN", "TTFT P90"),
    *("DEVICE GB S", "ROUND MS"),
)


def _row(run: "Run") -> tuple[str, ...]:
    figures, ttft_s = run.figures, run.figures["ttft_s"]
    assert isinstance(ttft_s, dict)
    return (
        run.policy,
        str(run.seed),
        str(figures["num_requests"]),
        str(figures["num_starts"]),
        f"{figures['ttft_attainment']:.3f}",
        f"{figures['tpot_attainment']:.3f}",
        _seconds(ttft_s["median"]),
        _seconds(ttft_s["p90"]),
        f"{figures['device_gb_s']:.0f}",
        f"{run.wall['round_mean_ms']:.3f}",
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"
