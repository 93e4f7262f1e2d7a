"""The command line of the embedded stack."""

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from deploy.local.demo import run_demo
from deploy.local.demo_model import ensure_demo_model
from deploy.local.errors import LocalStackError
from deploy.local.nodes import NodeOptions, equal_nodes, read_nodes
from deploy.local.options import StackOptions
from deploy.local.processes.runner import run_until_signal
from deploy.local.state.ports import LOOPBACK
from deploy.local.state.state_folder import StateFolder
from deploy.local.up import run_up
from libs.common.startmode import StartMode

_INTERRUPTED = 130  # as shells count SIGINT; a command that stays ends with 0 instead
Command = Callable[[argparse.Namespace, Console], int]


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code. Ctrl-C is a good end of it."""
    parsed = _parser().parse_args(arguments)
    console = Console(highlight=False)
    _log_to(console)
    try:
        return _COMMANDS[parsed.command](parsed, console)
    except LocalStackError as error:
        console.print(f"\n{type(error).__name__}", style="bold red")
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _model(parsed: argparse.Namespace, console: Console) -> int:
    ensure_demo_model(StateFolder.from_environment().sources)
    return 0


def _up(parsed: argparse.Namespace, console: Console) -> int:
    options = _stack_options(parsed)
    source = ensure_demo_model(options.state.sources)
    return run_until_signal(run_up(options, source, console))


def _demo(parsed: argparse.Namespace, console: Console) -> int:
    options = _stack_options(parsed)
    source = ensure_demo_model(options.state.sources)
    return run_until_signal(run_demo(options, source, console))


_COMMANDS: dict[str, Command] = {"model": _model, "up": _up, "demo": _demo}


def parse_stack_options(arguments: list[str], environ: Mapping[str, str]) -> StackOptions:
    """Of `up` or `demo`. Raises NodeOptionsError; leaves the process for a wrong option."""
    return _stack_options(_parser().parse_args(arguments), environ)


def _stack_options(
    parsed: argparse.Namespace, environ: Mapping[str, str] = os.environ
) -> StackOptions:
    return StackOptions(
        state=StateFolder.from_environment(environ),
        nodes=_nodes(parsed),
        host=parsed.host,
        port=parsed.port,
        num_gateways=parsed.gateways,
        num_schedulers=parsed.schedulers,
        start_mode=StartMode(parsed.start_mode),
        standby_runtimes=parsed.standby_runtimes,
        import_roots=tuple(path.absolute() for path in parsed.import_root),
        # Settings of services that a person has set in the shell: they win.
        service_env={key: value for key, value in environ.items() if key.startswith("HYDRA_")},
    )


def _nodes(parsed: argparse.Namespace) -> tuple[NodeOptions, ...]:
    if parsed.nodes_file is not None:
        return read_nodes(parsed.nodes_file)
    given = {"nic": parsed.nic, "memory": parsed.memory, "host_cache": parsed.host_cache}
    common: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if parsed.cores is not None:
        common["cores"] = parsed.cores
    if parsed.gpu is not None:
        common["gpu"] = int(parsed.gpu) if parsed.gpu.isdecimal() else parsed.gpu
    return equal_nodes(parsed.nodes, common)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("model", help="fetch the demo model once")
    _add_stack_options(commands.add_parser("up", help="start the stack and keep it"))
    _add_stack_options(commands.add_parser("demo", help="show a cold start and end"))
    return parser


def _add_stack_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--nodes", type=int, default=4, help="how many (default 4)")
    add("--nodes-file", type=Path, help="a TOML file with [[nodes]] tables instead")
    add("--nic", metavar="SIZE", help="each node's bytes per second, such as 50M (the default)")
    add("--memory", metavar="SIZE", help="each node's device memory, such as 2Gi (the default)")
    add("--gpu", help="number or UUID of the GPU that all nodes share (default: none)")
    add("--cores", type=int, help="each node's cores (default: an equal share)")
    add("--host-cache", metavar="SIZE", help="each node's cached weights (default 1Gi)")
    add("--host", default=LOOPBACK, help="the gateways' address (default 127.0.0.1)")
    add("--port", type=int, help="the first gateway's port (default: a free one)")
    add("--gateways", type=int, default=1, help="how many (default 1)")
    add("--schedulers", type=int, default=1, help="how many; one leads (default 1)")
    add(
        "--standby-runtimes",
        type=int,
        default=1,
        metavar="N",
        help="each node's processes that wait ready-made for a worker (default 1; 0: none)",
    )
    add(
        "--start-mode",
        choices=[mode.value for mode in StartMode],
        default=StartMode.HYDRA.value,
        help="how starts are planned: hydra (the default), or one of three to compare with it",
    )
    add(
        "--import-root",
        type=Path,
        action="append",
        default=[],
        help="a folder whose models may be registered by path; repeatable",
    )


def _log_to(console: Console) -> None:
    handler = RichHandler(
        console=console, show_path=False, show_level=False, omit_repeated_times=False
    )
    logging.basicConfig(level="INFO", format="%(message)s", datefmt="%X", handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
