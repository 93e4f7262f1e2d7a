"""Options that several commands have."""

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="The API's own JSON, for programs.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
