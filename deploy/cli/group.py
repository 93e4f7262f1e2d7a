"""The command group: whatever ends a command badly is one line and an exit code."""

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from deploy.cli.errors import CliError
from deploy.cli.output.terminal import Terminal

_BROKEN_PIPE = 1


class OneLineErrors(TyperGroup):
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Raises SystemExit, always."""
        try:
            result = super().main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )
        except CliError as error:
            Terminal().complain(str(error))
            sys.exit(error.exit_code)
        except typer.TyperException as error:  # a wrong command line
            Terminal().complain(_usage(error))
            sys.exit(error.exit_code)
        except typer.Abort:
            sys.exit(1)
        sys.exit(result if isinstance(result, int) else 0)


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)  # where in the line it was, if it got that far
    command = "hydraserve" if context is None else context.command_path
    return f"{error.format_message().rstrip('.')}; see '{command} --help'"
